//! A YAML mapping read key by key: what is left over has no effect, and is said to have none.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// What is known while a recipe is read, and what is gathered on the way.
pub(crate) struct Reading<'a> {
    /// The recipe, for messages.
    pub origin: &'a str,
    /// Tells of folders, whose names may hold `+` or `@`.
    pub exists: &'a dyn Fn(&str) -> bool,
    warnings: RefCell<Vec<String>>,
    architectures: RefCell<BTreeMap<String, String>>,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(origin: &'a str, exists: &'a dyn Fn(&str) -> bool) -> Self {
        Self {
            origin,
            exists,
            warnings: RefCell::default(),
            architectures: RefCell::default(),
        }
    }

    /// An error at `path`.
    pub(crate) fn refuse(&self, path: &str, problem: impl Into<String>) -> Error {
        Error::Recipe {
            origin: self.origin.to_owned(),
            field: path.to_owned(),
            problem: problem.into(),
        }
    }

    /// Tells of something that has no effect.
    pub(crate) fn warn(&self, warning: String) {
        let mut warnings = self.warnings.borrow_mut();
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    /// Remembers what the configuration of the model at `path` is to call its architecture.
    pub(crate) fn call(&self, path: &str, architecture: String) {
        let mut architectures = self.architectures.borrow_mut();
        architectures.insert(path.to_owned(), architecture);
    }

    /// Warnings, and architectures by model.
    pub(crate) fn gathered(self) -> (Vec<String>, BTreeMap<String, String>) {
        (self.warnings.into_inner(), self.architectures.into_inner())
    }
}

/// One mapping of a recipe and its place there.
pub(crate) struct Fields<'a> {
    reading: &'a Reading<'a>,
    path: String,
    map: Map<String, Value>,
    asked: Vec<&'static str>,
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
    pub(crate) fn new(reading: &'a Reading<'a>, path: &str, value: Value) -> Result<Self> {
        match value {
            Value::Object(map) => Ok(Self {
                reading,
                path: path.to_owned(),
                map,
                asked: Vec::new(),
            }),
            other => {
                Err(reading.refuse(path, format!("expected a mapping, found {}", kind(&other))))
            }
        }
    }

    /// Whether `key` is there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// The path of `key`.
    pub(crate) fn at(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// An error at `key`.
    pub(crate) fn refuse(&self, key: &str, problem: impl Into<String>) -> Error {
        self.reading.refuse(&self.at(key), problem)
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

    /// Warns of keys that nobody asked for: mergekit ignores them. `misplaced` says where a known
    /// key belongs; there the result is another than the author meant.
    pub(crate) fn finish(self, misplaced: impl Fn(&str) -> Option<String>) {
        for key in self.map.keys() {
            let at = self.at(key);
            let asked = self.asked.iter().copied();
            self.reading.warn(match misplaced(key) {
                Some(place) => format!(
                    "`{at}` IS IGNORED where it stands, by mergekit too, and the result is not what it asks for: {place}"
                ),
                None => match debias_core::nearest(key, asked) {
                    Some(nearest) => {
                        format!("`{at}` has no effect: unknown key; did you mean `{nearest}`?")
                    }
                    None => format!("`{at}` has no effect: unknown key"),
                },
            });
        }
    }
}
