//! JSON whose errors name the field.

use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::error::{Error, Result, one_line};

/// Reads `bytes`, the content of `file`.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8], file: &str) -> Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        explain(error.inner(), &path, file)
    })?;
    reader.end().map_err(|error| explain(&error, ".", file))?;
    Ok(value)
}

fn explain(error: &serde_json::Error, path: &str, file: &str) -> Error {
    let message = error.to_string();
    let (field, problem, mend) = match error.classify() {
        Category::Data => {
            let parent = (path != ".").then_some(path);
            // serde puts the name of an absent field only into its message.
            match message
                .strip_prefix("missing field `")
                .and_then(|rest| rest.split_once('`'))
            {
                Some((name, _)) => (
                    Some(parent.map_or(name.to_owned(), |parent| format!("{parent}.{name}"))),
                    "is required and missing".to_owned(),
                    "add it, or take the file that was published with the weights",
                ),
                None => (
                    parent.map(str::to_owned),
                    message,
                    "correct the value, or take the file that was published with the weights",
                ),
            }
        }
        Category::Eof => (
            None,
            format!("the file ends too early: {message}"),
            "fetch it again",
        ),
        Category::Syntax | Category::Io => (
            None,
            format!("not valid JSON: {message}"),
            "correct it or fetch it again",
        ),
    };
    Error::Json {
        file: file.to_owned(),
        field: field.map(|field| one_line(&field)),
        problem: one_line(&problem),
        mend,
    }
}
