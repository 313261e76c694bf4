//! How a recipe names a model: a folder, perhaps with an adapter on top.

use std::fmt;

use serde_json::Value;

use super::fields::{Fields, kind, refuse};
use crate::error::Result;

/// A model of a recipe: `path` or `path+adapter`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelRef {
    /// The folder, or an embedded model's name.
    pub path: String,
    /// A LoRA adapter's folder, added to the weights.
    pub adapter: Option<String>,
}

impl fmt::Display for ModelRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.path)?;
        match &self.adapter {
            Some(adapter) => write!(out, "+{adapter}"),
            None => Ok(()),
        }
    }
}

impl ModelRef {
    /// Reads a reference; `exists` tells of folders whose own name holds a `+` or an `@`.
    pub(crate) fn parse(
        origin: &str,
        at: &str,
        value: Value,
        exists: &dyn Fn(&str) -> bool,
    ) -> Result<Self> {
        match value {
            Value::String(text) => Self::of_text(origin, at, &text, exists),
            Value::Number(number) => Self::of_text(origin, at, &number.to_string(), exists),
            Value::Object(_) => Self::of_map(origin, at, value, exists),
            other => Err(refuse(
                origin,
                at,
                format!("expected a model's folder, found {}", kind(&other)),
            )),
        }
    }

    fn of_text(origin: &str, at: &str, text: &str, exists: &dyn Fn(&str) -> bool) -> Result<Self> {
        if exists(text) {
            return Ok(Self {
                path: text.to_owned(),
                adapter: None,
            });
        }
        let mut parts = text.split('+');
        let path = parts.next().unwrap_or_default();
        let adapter = parts.next();
        if parts.next().is_some() {
            return Err(refuse(
                origin,
                at,
                format!("`{text}` names more than one adapter; merge them first"),
            ));
        }
        for part in [Some(path), adapter].into_iter().flatten() {
            plain(origin, at, part, exists)?;
        }
        Ok(Self {
            path: path.to_owned(),
            adapter: adapter.map(str::to_owned),
        })
    }

    fn of_map(origin: &str, at: &str, value: Value, exists: &dyn Fn(&str) -> bool) -> Result<Self> {
        let mut fields = Fields::new(origin, at, value)?;
        let Some(model) = fields.take("model") else {
            return Err(fields.refuse("model", "is missing"));
        };
        let path = part(origin, &fields.at("model"), model, exists)?;
        let adapter = match fields.take("lora") {
            Some(adapter) => Some(part(origin, &fields.at("lora"), adapter, exists)?),
            None => None,
        };
        if fields.take("override_architecture").is_some() {
            return Err(fields.refuse(
                "override_architecture",
                "is not supported, nor needed: tensors are planned by their names; leave it out",
            ));
        }
        fields.finish(|_| None)?;
        Ok(Self { path, adapter })
    }
}

/// `path`, or `{path, revision}`.
fn part(origin: &str, at: &str, value: Value, exists: &dyn Fn(&str) -> bool) -> Result<String> {
    let path = match value {
        Value::String(path) => path,
        other => {
            let mut fields = Fields::new(origin, at, other)?;
            let path = fields.text("path")?;
            if fields.text("revision")?.is_some() {
                return Err(fields.refuse("revision", UNFETCHED));
            }
            let missing = fields.refuse("path", "is missing");
            fields.finish(|_| None)?;
            path.ok_or(missing)?
        }
    };
    plain(origin, at, &path, exists)?;
    Ok(path)
}

const UNFETCHED: &str = "revisions are not supported, since nothing is fetched: download the model, and give its folder without a revision";

fn plain(origin: &str, at: &str, path: &str, exists: &dyn Fn(&str) -> bool) -> Result<()> {
    if path.is_empty() {
        return Err(refuse(origin, at, "names no model"));
    }
    match path.contains('@') && !exists(path) {
        true => Err(refuse(origin, at, format!("`{path}`: {UNFETCHED}"))),
        false => Ok(()),
    }
}
