//! What a command may answer.

use serde_json::{Map, Value};

/// An answer to one question.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reply {
    /// The file with the deltas.
    Weights(String),
    /// The text in front of every prompt.
    Context(String),
    /// The command cannot make this edit.
    Refused(String),
}

/// Longest piece of a line that an error repeats.
const QUOTED: usize = 80;

/// Reads one line as the answer to `id`; `None` for an object that answers nothing, which a command
/// may send after `hello` or `prepare`.
///
/// # Errors
/// Anything else, described.
pub(super) fn parse(line: &str, id: &str) -> Result<Option<Reply>, String> {
    let object: Map<String, Value> = serde_json::from_str(line).map_err(|error| {
        format!(
            "answered `{}`, which is not a JSON object ({error}); its stdout is for answers only",
            quoted(line)
        )
    })?;
    let parts = ["weights", "context", "error"];
    let given: Vec<&str> = parts
        .into_iter()
        .filter(|p| object.contains_key(*p))
        .collect();
    match (object.get("id").and_then(Value::as_str), given.as_slice()) {
        (None, []) if !object.contains_key("id") => Ok(None),
        (None, ["error"]) => Err(format!("says: {}", text(&object["error"]))),
        (None, _) => Err("answered without the `id` it was asked under".to_owned()),
        (Some(other), _) if other != id => Err(format!(
            "answered under the id `{}`; it was asked under `{id}`",
            quoted(other)
        )),
        (Some(_), ["weights"]) => match &object["weights"] {
            Value::String(file) => Ok(Some(Reply::Weights(file.clone()))),
            other => Err(format!("`weights` is {other}; it must be a file's name")),
        },
        (Some(_), ["context"]) => match &object["context"]["prefix"] {
            Value::String(prefix) => Ok(Some(Reply::Context(prefix.clone()))),
            _ => Err("`context` must hold a text `prefix`".to_owned()),
        },
        (Some(_), ["error"]) => Ok(Some(Reply::Refused(text(&object["error"])))),
        (Some(_), _) => {
            Err("an answer must hold one of `weights`, `context` and `error`".to_owned())
        }
    }
}

fn text(value: &Value) -> String {
    quoted(value.as_str().unwrap_or(&value.to_string()))
}

/// The beginning of a text, fit for one line.
fn quoted(text: &str) -> String {
    let mut short: String = text.trim().chars().take(QUOTED).collect();
    if text.trim().chars().nth(QUOTED).is_some() {
        short.push('…');
    }
    short.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_answers_are_read() {
        let read = |line: &str| parse(line, "7").expect("an answer").expect("not empty");
        assert_eq!(
            read(r#"{"id": "7", "weights": "d.safetensors"}"#),
            Reply::Weights("d.safetensors".to_owned())
        );
        assert_eq!(
            read(r#"{"id": "7", "context": {"prefix": "Be fair. "}}"#),
            Reply::Context("Be fair. ".to_owned())
        );
        assert_eq!(
            read(r#"{"id": "7", "error": "cannot"}"#),
            Reply::Refused("cannot".to_owned())
        );
        assert_eq!(parse(r#"{"op": "ready"}"#, "7"), Ok(None));
    }

    #[test]
    fn everything_else_is_described() {
        for (line, expected) in [
            (
                "Loading...",
                "answered `Loading...`, which is not a JSON object",
            ),
            ("[1]", "not a JSON object"),
            (
                r#"{"id": "8", "weights": "d"}"#,
                "under the id `8`; it was asked under `7`",
            ),
            (r#"{"weights": "d"}"#, "without the `id`"),
            (r#"{"id": 7, "weights": "d"}"#, "without the `id`"),
            (r#"{"id": "7"}"#, "must hold one of"),
            (r#"{"id": "7", "weights": 3}"#, "`weights` is 3"),
            (
                r#"{"id": "7", "context": "x"}"#,
                "must hold a text `prefix`",
            ),
            (
                r#"{"id": "7", "weights": "d", "error": "e"}"#,
                "must hold one of",
            ),
            (r#"{"error": "no model"}"#, "says: no model"),
        ] {
            let problem = parse(line, "7").expect_err(line);
            assert!(problem.contains(expected), "{problem}");
        }
        let long = parse(&"x".repeat(1000), "7").expect_err("garbage");
        assert!(long.chars().count() < 250, "{long}");
    }
}
