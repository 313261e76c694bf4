//! Which of a folder's files is its tokenizer.

use std::collections::BTreeMap;

use debias_weights::Checkpoint;
use serde::Deserialize;

use super::Text;
use super::class::Class;
use super::tiktoken::Ranks;
use crate::error::{Error, Result};

/// What is needed of `tokenizer_config.json` and `config.json`.
#[derive(Default, Deserialize)]
struct Described {
    /// By id.
    added_tokens_decoder: Option<BTreeMap<u32, Added>>,
    model_type: Option<String>,
}

#[derive(Deserialize)]
struct Added {
    content: String,
}

impl Text {
    /// The tokenizer of a model's folder: its `tokenizer.json` as the class that its
    /// `tokenizer_config.json` names reads it, or else its `tokenizer.model` where
    /// that is a list of ranked tokens, as GLM-4V publishes it. Its special tokens are those of
    /// `tokenizer_config.json`, or the published ones of GLM-4.
    ///
    /// # Errors
    /// When neither file is there, or only one that has to be converted first.
    pub fn open(checkpoint: &Checkpoint) -> Result<Self> {
        let location = checkpoint.location();
        if let Some(json) = checkpoint.bytes_if_present("tokenizer.json")? {
            return Self::from_bytes(&json, &location)?.of_class(&Class::of(checkpoint)?);
        }
        let refused = |found: &str| Error::Text {
            location: location.clone(),
            problem: format!(
                "{found}; convert the tokenizer once: python -c \"from transformers import \
                 AutoTokenizer as A; A.from_pretrained('{location}', use_fast=True)\
                 .save_pretrained('{location}')\""
            ),
        };
        let Some(content) = checkpoint.bytes_if_present("tokenizer.model")? else {
            return Err(refused("tokenizer.json is missing"));
        };
        let Some(ranks) = Ranks::parse(&content).map_err(|problem| broken(&location, &problem))?
        else {
            return Err(refused(
                "tokenizer.json is missing, and tokenizer.model is of the sentencepiece kind",
            ));
        };
        let written: Option<Described> = checkpoint.json_if_present("tokenizer_config.json")?;
        let model: Option<Described> = checkpoint.json_if_present("config.json")?;
        let added = written.unwrap_or_default().added_tokens_decoder;
        let special = match (added, model.unwrap_or_default().model_type.as_deref()) {
            (Some(added), _) => added
                .into_iter()
                .map(|(id, added)| (added.content, id))
                .collect(),
            (None, Some("chatglm")) => ranks.glm_special(),
            (None, _) => {
                return Err(refused(
                    "tokenizer.json is missing, and tokenizer.model has special tokens that are \
                     not known",
                ));
            }
        };
        Self::ranked(&ranks, &special, &location)
    }

    /// Reads the content of a `tokenizer.model` that lists ranked tokens (lines of base64 and
    /// rank; ranks are ids), with the word pattern of GLM-4 and its prefix `[gMASK]<sop>`;
    /// `location` stands in messages.
    ///
    /// # Errors
    /// When the content is of another kind or repeats a token, or `special_tokens` lack the prefix
    /// or collide with the list.
    pub fn from_tiktoken(
        model: &[u8],
        special_tokens: &[(String, u32)],
        location: &str,
    ) -> Result<Self> {
        let ranks = Ranks::parse(model).map_err(|problem| broken(location, &problem))?;
        let ranks = ranks.ok_or_else(|| broken(location, "it is not a list of base64 and rank"))?;
        Self::ranked(&ranks, special_tokens, location)
    }

    fn ranked(ranks: &Ranks, special: &[(String, u32)], location: &str) -> Result<Self> {
        let tokenizer = ranks.tokenizer(special);
        let tokenizer = tokenizer.map_err(|problem| broken(location, &problem))?;
        Ok(Self::around(tokenizer, location))
    }
}

fn broken(location: &str, problem: &str) -> Error {
    Error::Text {
        location: location.to_owned(),
        problem: format!("tokenizer.model is unusable: {problem}; fetch it again"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::pixels::tests::fixtures;
    use crate::text::tests::assert_cases;

    /// A folder with the fixture's list of ranks, one tensor, and these two files.
    fn folder(config: &str, tokenizer_config: &str, model: &[u8]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        for (file, content) in [
            ("model.safetensors", &b"\x02\0\0\0\0\0\0\0{}"[..]),
            ("config.json", config.as_bytes()),
            ("tokenizer_config.json", tokenizer_config.as_bytes()),
            ("tokenizer.model", model),
        ] {
            fs::write(dir.path().join(file), content).expect("the folder is writable");
        }
        dir
    }

    fn open(dir: &tempfile::TempDir) -> Result<Text> {
        Text::open(&Checkpoint::open(dir.path()).expect("a checkpoint"))
    }

    #[test]
    fn a_ranked_list_gives_the_ids_of_the_converted_tokenizer() {
        let Some(dir) = fixtures() else { return };
        let dir = dir.join("models/glm4v_9b");
        let model = fs::read(dir.join("tokenizer.model")).expect("a fixture");
        let published = folder(r#"{"model_type": "chatglm"}"#, "{}", &model);
        let text = open(&published).expect("valid");
        assert!(assert_cases(&text, &dir) >= 9);
        assert_eq!(text.token_id("<|end_of_video|>"), Some(493));
        let converted = Text::open(&Checkpoint::open(&dir).expect("a checkpoint")).expect("valid");
        for (id, token) in [(480, "<|endoftext|>"), (491, "<|end_of_image|>")] {
            assert_eq!(converted.token_id(token), Some(id));
            assert_eq!(text.token_id(token), Some(id));
        }
        let added = json!({"added_tokens_decoder": {
            "482": {"content": "[gMASK]", "special": true}, "484": {"content": "<sop>"},
        }});
        let text = open(&folder("{}", &added.to_string(), &model)).expect("valid");
        assert_eq!(text.encode("", true).expect("a text"), [482, 484]);
        assert_eq!(text.vocab_size(), 485);
        let error = open(&folder("{}", "{}", &model)).expect_err("an unknown family");
        assert!(
            error
                .to_string()
                .contains("special tokens that are not known")
        );
    }

    #[test]
    fn other_tokenizers_are_to_be_converted() {
        let dir = folder("{}", "{}", b"\x0a\x0e\x0a\x05<unk>\x15\0\0\0\0\x18\x02");
        let message = open(&dir).expect_err("sentencepiece").to_string();
        assert!(message.contains("sentencepiece"), "{message}");
        assert!(
            message.contains("from transformers import AutoTokenizer"),
            "{message}"
        );
        fs::remove_file(dir.path().join("tokenizer.model")).expect("it is there");
        let message = open(&dir).expect_err("no tokenizer").to_string();
        assert!(
            message.contains("tokenizer.json is missing; convert"),
            "{message}"
        );
        assert!(!message.contains('\n'));
    }
}
