//! How a recipe names a model: a folder, perhaps with an adapter on top.

use std::fmt;

use serde_json::Value;

use super::fields::{Fields, Reading, kind};
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
    /// Reads a reference.
    pub(crate) fn parse(reading: &Reading, at: &str, value: Value) -> Result<Self> {
        match value {
            Value::String(text) => Self::of_text(reading, at, &text),
            Value::Number(number) => Self::of_text(reading, at, &number.to_string()),
            Value::Object(_) => Self::of_map(reading, at, value),
            other => Err(reading.refuse(
                at,
                format!("expected a model's folder, found {}", kind(&other)),
            )),
        }
    }

    fn of_text(reading: &Reading, at: &str, text: &str) -> Result<Self> {
        if (reading.exists)(text) {
            return Ok(Self {
                path: text.to_owned(),
                adapter: None,
            });
        }
        let mut parts = text.split('+');
        let path = parts.next().unwrap_or_default();
        let adapter = parts.next();
        if parts.next().is_some() {
            return Err(reading.refuse(
                at,
                format!("`{text}` names more than one adapter; merge them first"),
            ));
        }
        Ok(Self {
            path: folder(reading, at, path, None)?,
            adapter: match adapter {
                Some(adapter) => Some(folder(reading, at, adapter, None)?),
                None => None,
            },
        })
    }

    fn of_map(reading: &Reading, at: &str, value: Value) -> Result<Self> {
        let mut fields = Fields::new(reading, at, value)?;
        let Some(model) = fields.take("model") else {
            return Err(fields.refuse("model", "is missing"));
        };
        let path = part(reading, &fields.at("model"), model)?;
        let adapter = match fields.take("lora") {
            Some(adapter) => Some(part(reading, &fields.at("lora"), adapter)?),
            None => None,
        };
        if let Some(architecture) = fields.text("override_architecture")? {
            reading.call(&path, architecture);
        }
        fields.finish(|_| None);
        Ok(Self { path, adapter })
    }
}

/// `path`, or `{path, revision}`.
fn part(reading: &Reading, at: &str, value: Value) -> Result<String> {
    let Value::Object(_) = value else {
        return match value {
            Value::String(path) => folder(reading, at, &path, None),
            Value::Number(number) => folder(reading, at, &number.to_string(), None),
            other => Err(reading.refuse(
                at,
                format!("expected a model's folder, found {}", kind(&other)),
            )),
        };
    };
    let mut fields = Fields::new(reading, at, value)?;
    let path = fields.text("path")?;
    let revision = fields.text("revision")?;
    let missing = fields.refuse("path", "is missing");
    fields.finish(|_| None);
    folder(reading, at, &path.ok_or(missing)?, revision.as_deref())
}

const UNFETCHED: &str = "revisions are not supported, since nothing is fetched: download the model, and give its folder without a revision";

/// A folder's name, of which a revision may be wanted, behind an `@` or beside it. What lies in a
/// folder has one revision; mergekit takes it whatever is asked for.
fn folder(reading: &Reading, at: &str, name: &str, revision: Option<&str>) -> Result<String> {
    let (path, revision) = match (name.split_once('@'), revision) {
        _ if (reading.exists)(name) => (name, revision),
        (Some((path, revision)), None) => (path, Some(revision)),
        _ => (name, revision),
    };
    if path.is_empty() {
        return Err(reading.refuse(at, "names no model"));
    }
    match revision {
        None => {}
        Some(revision) if (reading.exists)(path) => reading.warn(format!(
            "`{at}`: the revision `{revision}` has no effect: `{path}` is a folder here, and is taken as it is"
        )),
        Some(_) => return Err(reading.refuse(at, format!("`{name}`: {UNFETCHED}"))),
    }
    Ok(path.to_owned())
}
