//! Editor settings: typed defaults in code, presets, and `--set EDITOR.KEY=VALUE` on top.

use std::collections::BTreeMap;

use debias_core::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Merged settings of one editor, by key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Settings(BTreeMap<String, Value>);

impl Settings {
    /// The settings that `config` spells out.
    pub fn of<C: Serialize>(config: &C) -> Self {
        match serde_json::to_value(config) {
            Ok(Value::Object(map)) => Self(map.into_iter().collect()),
            _ => Self::default(),
        }
    }

    /// These settings, and those of `other`.
    #[must_use]
    pub(crate) fn and(mut self, other: Settings) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// Sets `key` from the text of `--set`: JSON where it parses, a string otherwise.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the nearest key.
    pub fn set(&mut self, editor: &str, key: &str, text: &str) -> Result<()> {
        if !self.0.contains_key(key) {
            let full: Vec<String> = self.keys().map(|key| format!("{editor}.{key}")).collect();
            let known = full.iter().map(String::as_str);
            return Err(Error::unknown("setting", &format!("{editor}.{key}"), known));
        }
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        self.0.insert(key.to_owned(), value);
        Ok(())
    }

    /// The same settings with `value` for `key`.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    /// The typed configuration.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the editor and what does not fit.
    pub fn config<C: DeserializeOwned>(&self, editor: &str) -> Result<C> {
        let map = self.0.clone().into_iter().collect();
        serde_json::from_value(Value::Object(map)).map_err(|problem| Error::Setting {
            key: editor.to_owned(),
            problem: problem.to_string(),
        })
    }
}
