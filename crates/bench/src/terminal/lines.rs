//! Lines that come in, read a window at a time.

use std::fmt;
use std::io::{BufReader, stdin};
use std::path::Path;

use debias_data::{Content, Entry, check_picture_name, raw_field};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::compute::Input;

/// What a line is called; it comes back as it was written, text or number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id {
    written: String,
    name: String,
}

impl Id {
    /// A text.
    pub fn text(name: String) -> Self {
        Self {
            written: Value::from(name.as_str()).to_string(),
            name,
        }
    }

    /// The field `id` of an entry; none where it has no such field.
    ///
    /// # Errors
    /// An id that is neither text nor number.
    pub fn of(entry: &Entry) -> Result<Option<Self>, String> {
        let Some(raw) = raw_field(entry.bytes, "id") else {
            return Ok(None);
        };
        let wrong = || "`id` must be a text or a number".to_owned();
        let written = std::str::from_utf8(raw).map_err(|_| wrong())?.to_owned();
        let name = match serde_json::from_str(&written) {
            Ok(Value::String(text)) => text,
            Ok(Value::Number(_)) => written.clone(),
            _ => return Err(wrong()),
        };
        Ok(Some(Self { written, name }))
    }

    /// As JSON, digit by digit what was written.
    pub fn written(&self) -> &str {
        &self.written
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The field `image` of a line: a path that stays below the images' folder.
///
/// # Errors
/// A path that leaves it, and what is no path.
pub fn image<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    let image = Option::<String>::deserialize(value)?;
    match image.as_ref().map(|name| check_picture_name(name)) {
        Some(Err(problem)) => {
            let name = image.unwrap_or_default();
            let name = match name.trim() {
                "" => String::new(),
                _ => format!(" `{}`", name.escape_debug()),
            };
            Err(serde::de::Error::custom(format!("`image`{name} {problem}")))
        }
        _ => Ok(image),
    }
}

/// A line, and what is asked by it.
#[derive(Clone, Debug)]
pub struct Given<T> {
    /// Its number, from 1.
    pub line: usize,
    /// Its name, where it has one.
    pub id: Option<Id>,
    /// What it asks, or why it cannot.
    pub asked: Result<T, String>,
}

/// Lines of a file or of standard input.
pub struct Lines {
    name: String,
    lines: debias_data::Lines<'static>,
}

impl Lines {
    /// Opens what `input` names.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn open(input: &Input, content: Content) -> anyhow::Result<Self> {
        let (name, lines) = match input.path() {
            Some(path) => (
                path.display().to_string(),
                debias_data::Lines::open(path, content)?,
            ),
            None => {
                let name = "standard input";
                let reader = BufReader::new(stdin());
                let lines = debias_data::Lines::over(Path::new(name), reader, content)?;
                (name.to_owned(), lines)
            }
        };
        Ok(Self { name, lines })
    }

    /// How messages name line `number`.
    pub fn place(&self, number: usize) -> String {
        format!("{}: line {number}", self.name)
    }

    /// The next up to `n` lines, each of which must have an id; empty at the end.
    ///
    /// # Errors
    /// Lines that cannot be told apart any more.
    pub fn window<T: DeserializeOwned>(&mut self, n: usize) -> anyhow::Result<Vec<Given<T>>> {
        let mut found = Vec::new();
        while found.len() < n
            && let Some(entry) = self.lines.next_entry()?
        {
            found.push(given(&entry));
        }
        Ok(found)
    }

    /// The next line as it is.
    ///
    /// # Errors
    /// As [`Lines::window`].
    pub fn next_entry(&mut self) -> anyhow::Result<Option<Entry<'_>>> {
        Ok(self.lines.next_entry()?)
    }
}

fn given<T: DeserializeOwned>(entry: &Entry) -> Given<T> {
    let id = Id::of(entry);
    // What is no object has no field to miss.
    let asked = match (entry.parse::<Value>(), &id) {
        (Err(fault), _) if entry.bytes.first() == Some(&b'{') => Err(fault.to_string()),
        (Err(fault), _) => Err(format!("must be a JSON object: {fault}")),
        (Ok(value), _) if !value.is_object() => Err("must be a JSON object".to_owned()),
        (Ok(_), Err(problem)) => Err(problem.clone()),
        (Ok(_), Ok(None)) => Err("missing field `id`".to_owned()),
        (Ok(_), Ok(Some(_))) => entry.parse().map_err(|fault| fault.to_string()),
    };
    Given {
        line: entry.line,
        id: id.ok().flatten(),
        asked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_as_they_were_written() {
        for raw in [
            "1",
            "12345678901234567890123",
            "1.50",
            "-3e2",
            "\"a\\u00e9\"",
            "\"\"",
        ] {
            let text = format!("{{\"x\": {{\"id\": 0}}, \"id\": {raw}}}");
            let entry = Entry {
                line: 1,
                is_text: false,
                bytes: text.as_bytes(),
            };
            let given: Given<Value> = given(&entry);
            assert_eq!(given.id.expect("an id").written(), raw);
            assert!(given.asked.is_ok());
        }
    }

    #[test]
    fn a_line_that_asks_nothing_says_why() {
        for (text, said) in [
            ("[1]", "must be a JSON object"),
            ("x", "must be a JSON object: not JSON"),
            ("{\"id\": 1", "not JSON: EOF"),
            ("{}", "missing field `id`"),
            ("{\"id\": null}", "`id` must be a text or a number"),
            ("{\"id\": [1]}", "`id` must be a text or a number"),
        ] {
            let entry = Entry {
                line: 1,
                is_text: false,
                bytes: text.as_bytes(),
            };
            let given: Given<Value> = given(&entry);
            let problem = given.asked.expect_err(text);
            assert!(problem.starts_with(said), "{text}: {problem}");
        }
    }
}
