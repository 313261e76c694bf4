//! `tokenizer_source` and `tokenizer`: whose vocabulary the output has.

use serde_json::Value;

use super::fields::{Fields, Reading, kind};
use crate::error::Result;
use crate::vocabulary::{TokenRowSource, TokenRule, TokenSource, TokenizerSetting};

/// Reads both keys, of which one may be given.
pub(crate) fn parse(reading: &Reading, fields: &mut Fields) -> Result<Option<TokenizerSetting>> {
    let short = fields.take("tokenizer_source");
    let long = fields.take("tokenizer");
    match (short, long) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(fields.refuse(
            "tokenizer",
            "cannot stand beside `tokenizer_source`; keep one of them",
        )),
        (Some(value), None) => Ok(Some(TokenizerSetting {
            source: source(fields, "tokenizer_source", Some(value))?,
            tokens: Vec::new(),
            pad_to_multiple_of: None,
        })),
        (None, Some(value)) => {
            let mut fields = Fields::new(reading, "tokenizer", value)?;
            let given = fields.take("source");
            let setting = TokenizerSetting {
                source: source(&fields, "source", given)?,
                tokens: rules(reading, &mut fields)?,
                pad_to_multiple_of: multiple(&mut fields)?,
            };
            fields.finish(|_| None);
            Ok(Some(setting))
        }
    }
}

fn source(fields: &Fields, key: &str, value: Option<Value>) -> Result<TokenSource> {
    match value {
        None => Ok(TokenSource::Union),
        Some(Value::String(name)) => Ok(match name.as_str() {
            "union" => TokenSource::Union,
            "base" => TokenSource::Base,
            _ => TokenSource::Model(name),
        }),
        Some(other) => Err(fields.refuse(
            key,
            format!("expected union, base or a model, found {}", kind(&other)),
        )),
    }
}

fn multiple(fields: &mut Fields) -> Result<Option<usize>> {
    match fields.take("pad_to_multiple_of") {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            Some(n) if (1..=1 << 20).contains(&n) => Ok(Some(n as usize)),
            _ => Err(fields.refuse(
                "pad_to_multiple_of",
                format!("{value} is no whole number of at least 1"),
            )),
        },
    }
}

fn rules(reading: &Reading, fields: &mut Fields) -> Result<Vec<(String, TokenRule)>> {
    let path = fields.at("tokens");
    let tokens = fields.map("tokens")?.unwrap_or_default();
    tokens
        .into_iter()
        .map(|(token, value)| {
            let mut rule = Fields::new(reading, &format!("{path}.{token}"), value)?;
            let source = match rule.take("source") {
                None => None,
                Some(value) => Some(row(reading, &rule.at("source"), value)?),
            };
            let force = match rule.take("force") {
                None => false,
                Some(Value::Bool(force)) => force,
                Some(other) => {
                    let problem = format!("expected true or false, found {}", kind(&other));
                    return Err(rule.refuse("force", problem));
                }
            };
            rule.finish(|_| None);
            Ok((token, TokenRule { source, force }))
        })
        .collect()
}

fn row(reading: &Reading, path: &str, value: Value) -> Result<TokenRowSource> {
    if let Value::String(model) = value {
        return Ok(TokenRowSource::Model(model));
    }
    let mut fields = Fields::new(reading, path, value)?;
    let named = fields.text("kind")?;
    let row = match named.as_deref() {
        Some("zero") => TokenRowSource::Zero,
        Some("model_token") => {
            let Some(model) = fields.text("model")? else {
                return Err(fields.refuse("model", "is missing"));
            };
            let token = fields.text("token")?;
            let id = fields.take("token_id").and_then(|id| id.as_u64());
            if token.is_some() == id.is_some() {
                return Err(fields.refuse("token", "give either `token` or `token_id`"));
            }
            TokenRowSource::Token {
                model,
                token,
                id: id.map(|id| id as usize),
            }
        }
        _ => return Err(fields.refuse("kind", "expected zero or model_token")),
    };
    fields.finish(|_| None);
    Ok(row)
}
