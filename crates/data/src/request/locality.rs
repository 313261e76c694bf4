//! EasyEdit's nested `locality` of text requests, as its editor takes it and as KnowEdit writes it.

use serde_json::{Map, Value};

use super::fields::leaves;

/// Questions with answers, in the order of the file, out of
/// `{"neighborhood": {"prompt": .., "ground_truth": ..}}` with texts or lists of equal length, or of
/// `{"Relation_Specificity": [{"prompt": .., "ground_truth": ..}]}`; other names than these two say
/// the same. Of several spellings of an answer the first is taken.
///
/// # Errors
/// What is wrong with it.
pub(super) fn items(value: &Value) -> Result<Vec<(String, String)>, String> {
    let inner: Vec<&Value> = match value {
        Value::Object(object) if object.contains_key("prompt") => return pairs(object),
        Value::Object(object) => object.values().collect(),
        Value::Array(list) => list.iter().collect(),
        Value::Null => Vec::new(),
        _ => return Err("holds something else than `prompt` and `ground_truth`".to_owned()),
    };
    let items: Result<Vec<_>, _> = inner.into_iter().map(items).collect();
    Ok(items?.concat())
}

/// The questions of one object with their answers.
fn pairs(object: &Map<String, Value>) -> Result<Vec<(String, String)>, String> {
    let answers = object.get("ground_truth").filter(|value| !value.is_null());
    let answers = answers.ok_or("has a `prompt` without `ground_truth`")?;
    let prompt = object.get("prompt").unwrap_or(&Value::Null);
    let (prompts, answers): (Vec<_>, Vec<_>) = match (prompt, answers) {
        (Value::Array(prompts), Value::Array(answers)) => {
            (prompts.iter().collect(), answers.iter().collect())
        }
        (Value::Array(prompts), answer) => (prompts.iter().collect(), vec![answer]),
        (prompt, answer) => (vec![prompt], vec![answer]),
    };
    if prompts.len() != answers.len() {
        return Err(format!(
            "has {} texts in `prompt` and {} in `ground_truth`",
            prompts.len(),
            answers.len()
        ));
    }
    prompts
        .into_iter()
        .zip(answers)
        .map(|(prompt, answer)| Ok((first(prompt, "prompt")?, first(answer, "ground_truth")?)))
        .collect()
}

/// The first text of a value.
fn first(value: &Value, key: &str) -> Result<String, String> {
    let texts = leaves(value).ok_or_else(|| format!("has a `{key}` that is not text"))?;
    match texts.first() {
        Some(text) if !text.trim().is_empty() => Ok((*text).to_owned()),
        _ => Err(format!("has a `{key}` that is empty")),
    }
}
