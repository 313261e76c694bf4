//! A YAML mapping read key by key: what is left over is unknown, and said to be.

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// One mapping of a recipe and its place there.
pub(crate) struct Fields<'a> {
    origin: &'a str,
    path: String,
    map: Map<String, Value>,
    asked: Vec<&'static str>,
}

/// An error at `path` of a recipe.
pub(crate) fn refuse(origin: &str, path: &str, problem: impl Into<String>) -> Error {
    Error::Recipe {
        origin: origin.to_owned(),
        field: path.to_owned(),
        problem: problem.into(),
    }
}

/// What a YAML value is, for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a flag",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

impl<'a> Fields<'a> {
    /// Reads `value`, which stands at `path`, as a mapping.
    pub(crate) fn new(origin: &'a str, path: &str, value: Value) -> Result<Self> {
        match value {
            Value::Object(map) => Ok(Self {
                origin,
                path: path.to_owned(),
                map,
                asked: Vec::new(),
            }),
            other => Err(refuse(
                origin,
                path,
                format!("expected a mapping, found {}", kind(&other)),
            )),
        }
    }

    /// Whether `key` is there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// The path of `key`.
    pub(crate) fn at(&self, key: &str) -> String {
        match self.path.is_empty() {
            true => key.to_owned(),
            false => format!("{}.{key}", self.path),
        }
    }

    /// An error at `key`.
    pub(crate) fn refuse(&self, key: &str, problem: impl Into<String>) -> Error {
        refuse(self.origin, &self.at(key), problem)
    }

    /// Takes `key` out; an empty value counts as absent, as in mergekit.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Value> {
        self.asked.push(key);
        self.map.remove(key).filter(|value| !value.is_null())
    }

    /// [`Fields::take`] for a text.
    pub(crate) fn text(&mut self, key: &'static str) -> Result<Option<String>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            // A folder may be called 2026.
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(other) => {
                Err(self.refuse(key, format!("expected a text, found {}", kind(&other))))
            }
        }
    }

    /// [`Fields::take`] for a list.
    pub(crate) fn list(&mut self, key: &'static str) -> Result<Option<Vec<Value>>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) => {
                Err(self.refuse(key, format!("expected a list, found {}", kind(&other))))
            }
        }
    }

    /// [`Fields::take`] for a mapping of any keys.
    pub(crate) fn map(&mut self, key: &'static str) -> Result<Option<Map<String, Value>>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(other) => {
                Err(self.refuse(key, format!("expected a mapping, found {}", kind(&other))))
            }
        }
    }

    /// Refuses keys that nobody asked for; `misplaced` says where a known key belongs.
    pub(crate) fn finish(self, misplaced: impl Fn(&str) -> Option<String>) -> Result<()> {
        let Some(key) = self.map.keys().next() else {
            return Ok(());
        };
        let hint = misplaced(key).or_else(|| {
            debias_core::nearest(key, self.asked.iter().copied())
                .map(|nearest| format!("did you mean `{nearest}`?"))
        });
        Err(self.refuse(
            key,
            match hint {
                Some(hint) => format!("unknown key — {hint}"),
                None => "unknown key".to_owned(),
            },
        ))
    }
}
