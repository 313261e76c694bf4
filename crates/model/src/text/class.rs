//! What the class of a tokenizer changes of the tokenizer that its `tokenizer.json` describes.
//!
//! transformers builds the pre-tokenizer of some classes anew, from `tokenizer_config.json`; of
//! others (`PreTrainedTokenizerFast`, `TokenizersBackend`) it takes the one in the file.

use debias_weights::Checkpoint;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokenizers::normalizers::Sequence;

use super::Text;
use crate::error::Result;

/// Families whose folders need not name the class, and the one they then are of.
const CLASSES: [(&str, &str); 6] = [
    ("gpt2", BYTES),
    ("gpt_neo", BYTES),
    ("opt", BYTES),
    ("blip-2", BYTES),
    ("qwen2", QWEN),
    ("internvl", QWEN),
];

/// Classes of byte-level pairs, which put no space in front unless they are told to.
const BYTES: &str = "GPT2Tokenizer";
const QWEN: &str = "Qwen2Tokenizer";

/// Classes of sentencepiece pairs, which put a space in front unless they are told not to.
const PIECES: [&str; 2] = ["LlamaTokenizer", "CodeLlamaTokenizer"];

/// Classes of nothing but the file.
const PLAIN: [&str; 2] = ["PreTrainedTokenizer", "TokenizersBackend"];

/// What a folder says beside its `tokenizer.json`.
pub(super) struct Class {
    name: String,
    /// Whether a text gets a space in front.
    add_prefix_space: Option<bool>,
}

/// What is needed of `tokenizer_config.json` and `config.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Written {
    tokenizer_class: Option<String>,
    add_prefix_space: Option<bool>,
    model_type: Option<String>,
}

impl Class {
    /// Of a folder.
    ///
    /// # Errors
    /// A malformed file.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let written: Option<Written> = checkpoint.json_if_present("tokenizer_config.json")?;
        let Written {
            tokenizer_class,
            add_prefix_space,
            ..
        } = written.unwrap_or_default();
        let named = tokenizer_class.map(|name| match name.strip_suffix("Fast") {
            Some(name) => name.to_owned(),
            None => name,
        });
        let name = match named {
            Some(name) => name,
            None => {
                let model: Option<Written> = checkpoint.json_if_present("config.json")?;
                let family = model.unwrap_or_default().model_type.unwrap_or_default();
                let class = CLASSES.iter().find(|(of, _)| *of == family);
                class.map_or(PLAIN[0], |(_, class)| class).to_owned()
            }
        };
        Ok(Self {
            name,
            add_prefix_space,
        })
    }

    /// Whether a byte-level pre-tokenizer is to put a space in front; `None` for what the file says.
    fn space_before_bytes(&self) -> Option<bool> {
        let name = self.name.as_str();
        if PLAIN.contains(&name) || PIECES.contains(&name) {
            None
        } else if [BYTES, QWEN].contains(&name) {
            Some(self.add_prefix_space.unwrap_or(false))
        } else {
            self.add_prefix_space
        }
    }

    /// Whether no space is to stand in front of sentencepiece pairs.
    fn bare_pieces(&self) -> bool {
        PIECES.contains(&self.name.as_str()) && self.add_prefix_space == Some(false)
    }
}

impl Text {
    /// The same tokenizer, as `class` reads it.
    ///
    /// # Errors
    /// A tokenizer that cannot be built anew.
    pub(super) fn of_class(mut self, class: &Class) -> Result<Self> {
        if let Some(space) = class.space_before_bytes() {
            let set = |part: &mut Value| {
                if part["type"] == "ByteLevel" {
                    part["add_prefix_space"] = space.into();
                }
            };
            self.change_pre_tokenizer(set)?;
        }
        if class.bare_pieces() {
            self.change_pre_tokenizer(|part| {
                if part["type"] == "Metaspace" {
                    part["prepend_scheme"] = "never".into();
                }
            })?;
            self.leave_out_prepended()?;
        }
        Ok(self)
    }

    fn change_pre_tokenizer(&mut self, change: impl Fn(&mut Value)) -> Result<()> {
        let Some(old) = self.tokenizer.get_pre_tokenizer() else {
            return Ok(());
        };
        let written = serde_json::to_value(old).map_err(|error| self.unchanged(&error))?;
        let mut changed = written.clone();
        match changed["pretokenizers"].as_array_mut() {
            Some(parts) => parts.iter_mut().for_each(change),
            None => change(&mut changed),
        }
        if changed != written {
            let new: tokenizers::PreTokenizerWrapper = self.rebuilt(changed)?;
            self.tokenizer.with_pre_tokenizer(Some(new));
        }
        Ok(())
    }

    /// Takes away the normalizer that stands a space in front of a text.
    fn leave_out_prepended(&mut self) -> Result<()> {
        let Some(old) = self.tokenizer.get_normalizer() else {
            return Ok(());
        };
        let written = serde_json::to_value(old).map_err(|error| self.unchanged(&error))?;
        let prepends = |part: &Value| part["type"] == "Prepend";
        let kept: Vec<Value> = match written["normalizers"].as_array() {
            Some(parts) => parts
                .iter()
                .filter(|part| !prepends(part))
                .cloned()
                .collect(),
            None if prepends(&written) => Vec::new(),
            None => return Ok(()),
        };
        let kept = kept.into_iter().map(|part| self.rebuilt(part));
        let kept = kept.collect::<Result<Vec<tokenizers::NormalizerWrapper>>>()?;
        self.tokenizer.with_normalizer(Some(Sequence::new(kept)));
        Ok(())
    }

    fn rebuilt<T: DeserializeOwned>(&self, written: Value) -> Result<T> {
        serde_json::from_value(written).map_err(|error| self.unchanged(&error))
    }

    fn unchanged(&self, error: &serde_json::Error) -> crate::error::Error {
        self.error(format!(
            "tokenizer.json cannot be read as tokenizer_config.json asks: {error}; fetch both again"
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::text::train::tests::CORPUS;
    use crate::text::{train_byte_level_bpe, train_metaspace_bpe};

    /// The ids of a text by a tokenizer of this folder.
    fn ids(tokenizer: &Value, config: &Value, model: &str, text: &str) -> Vec<u32> {
        let dir = tempfile::tempdir().expect("a folder");
        for (file, content) in [
            ("tokenizer.json", tokenizer.to_string()),
            ("tokenizer_config.json", config.to_string()),
            ("config.json", json!({"model_type": model}).to_string()),
            ("model.safetensors", "\u{2}\0\0\0\0\0\0\0{}".to_owned()),
        ] {
            fs::write(dir.path().join(file), content).expect("the folder is writable");
        }
        let checkpoint = Checkpoint::open(dir.path()).expect("a checkpoint");
        let opened = Text::open(&checkpoint).expect("valid");
        opened.encode(text, false).expect("a text")
    }

    fn trained(train: fn(std::vec::IntoIter<&'static str>, usize) -> Result<Vec<u8>>) -> Value {
        let json = train(CORPUS.to_vec().into_iter(), 400).expect("the vocabulary has room");
        serde_json::from_slice(&json).expect("JSON")
    }

    #[test]
    fn classes_of_bytes_put_a_space_in_front_as_they_are_told() {
        let mut file = trained(train_byte_level_bpe);
        let plain = |text| ids(&file, &json!({}), "none", text);
        let (bare, spaced) = (plain("the nurse"), plain(" the nurse"));
        assert_ne!(bare, spaced);
        for (class, model, said, expected) in [
            (Some("GPT2Tokenizer"), "opt", Some(true), &spaced),
            (Some("GPT2TokenizerFast"), "opt", Some(true), &spaced),
            (Some("Qwen2Tokenizer"), "qwen2", Some(true), &spaced),
            (None, "gpt2", Some(true), &spaced),
            (Some("GPT2Tokenizer"), "opt", Some(false), &bare),
            (Some("GPT2Tokenizer"), "opt", None, &bare),
            // These take the file as it is.
            (Some("PreTrainedTokenizerFast"), "gpt2", Some(true), &bare),
            (Some("TokenizersBackend"), "gpt2", Some(true), &bare),
            (Some("LlamaTokenizerFast"), "llama", Some(true), &bare),
            (None, "llama", Some(true), &bare),
        ] {
            let config = json!({"tokenizer_class": class, "add_prefix_space": said});
            let found = ids(&file, &config, model, "the nurse");
            assert_eq!(&found, expected, "{class:?} {model} {said:?}");
        }
        // What the file says is not what the class does.
        file["pre_tokenizer"]["add_prefix_space"] = true.into();
        let of = |class: &str| {
            let config = json!({"tokenizer_class": class});
            ids(&file, &config, "gpt2", "the nurse")
        };
        assert_eq!(of("GPT2Tokenizer"), bare);
        assert_eq!(of("PreTrainedTokenizerFast"), spaced);
        // Within a sequence too.
        let bytes = file["pre_tokenizer"].clone();
        file["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [bytes]});
        assert_eq!(ids(&file, &json!({}), "gpt2", "the nurse"), bare);
    }

    #[test]
    fn classes_of_pieces_leave_the_space_away_as_they_are_told() {
        let file = trained(train_metaspace_bpe);
        let of = |class: &str, said: Option<bool>, text: &str| {
            let config = json!({"tokenizer_class": class, "add_prefix_space": said});
            ids(&file, &config, "llama", text)
        };
        let spaced = of("PreTrainedTokenizerFast", Some(false), "the nurse");
        for said in [None, Some(true)] {
            assert_eq!(of("LlamaTokenizer", said, "the nurse"), spaced);
        }
        let bare = of("LlamaTokenizer", Some(false), "the nurse");
        assert_ne!(bare, spaced);
        assert_eq!(of("LlamaTokenizer", Some(false), " the nurse"), spaced);
        // The same tokenizer with a pre-tokenizer in the place of the normalizer.
        let mut newer = file.clone();
        newer["normalizer"] = Value::Null;
        newer["pre_tokenizer"] = json!({
            "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false
        });
        let config = json!({"tokenizer_class": "LlamaTokenizer", "add_prefix_space": false});
        assert_eq!(ids(&newer, &config, "llama", "the nurse"), bare);
        assert_eq!(ids(&newer, &json!({}), "llama", "the nurse"), spaced);
    }
}
