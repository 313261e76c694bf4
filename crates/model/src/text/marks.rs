//! The tokens that begin and end a text, as a model's folder names them.

use debias_weights::Checkpoint;
use serde_json::Value;

use super::Text;
use crate::error::Result;

/// The tokens that begin and end a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    begin: Option<u32>,
    ends: Vec<u32>,
}

impl Marks {
    /// Those of `folder`, whose tokenizer is `text`.
    ///
    /// A text begins with the `bos_token` of `tokenizer_config.json`, else with what the tokenizer puts
    /// in front of every text, else with the `bos_token_id` of `config.json`. It ends with the
    /// `eos_token_id` of `generation_config.json`, else of `config.json` (at the top or with the
    /// decoder), else with the tokenizer's own.
    ///
    /// # Errors
    /// A malformed file.
    pub fn of(folder: &Checkpoint, text: &Text) -> Result<Self> {
        let written = |file: &str| -> Result<Value> {
            Ok(folder.json_if_present(file)?.unwrap_or(Value::Null))
        };
        let (config, tokenizer) = (written("config.json")?, written("tokenizer_config.json")?);
        let generation = written("generation_config.json")?;
        let within = [&config["text_config"], &config["llm_config"], &config];
        let first = |key: &str| {
            let found = within.iter().map(|place| ids(&place[key]));
            found.into_iter().find(|ids| !ids.is_empty())
        };
        let named = |key: &str| {
            let token = &tokenizer[key];
            // Written as a text, or as an object that describes it.
            let token = token.as_str().or_else(|| token["content"].as_str());
            token.and_then(|token| text.token_id(token))
        };
        let own = text.end_of_text().into_iter().collect::<Vec<u32>>();
        let ends = [ids(&generation["eos_token_id"])]
            .into_iter()
            .find(|ids| !ids.is_empty())
            .or_else(|| first("eos_token_id"))
            .unwrap_or(own);
        let opening = text.encode("", true)?.first().copied();
        let begin = named("bos_token")
            .or(opening)
            .or_else(|| first("bos_token_id")?.first().copied())
            .or_else(|| named("eos_token"))
            .or_else(|| ends.first().copied());
        Ok(Self { begin, ends })
    }

    /// The token in front of a text that begins with nothing else; where the model has none, the one
    /// that ends a text.
    pub fn beginning(&self) -> Option<u32> {
        self.begin
    }

    /// The tokens that end a text.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }
}

/// One id, or a list of them.
fn ids(value: &Value) -> Vec<u32> {
    let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(list) => list.iter().filter_map(one).collect(),
        other => one(other).into_iter().collect(),
    }
}
