//! Text to tokens and back.

mod train;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::Tokenizer;

use crate::error::{Error, Result};

pub use train::{train_byte_level_bpe, train_metaspace_bpe};

/// The token whose embeddings are replaced by image vectors.
pub const IMAGE_TOKEN: &str = "<image>";

/// Tokens that published tokenizers end a document with, most common first.
const ENDS: [&str; 3] = ["</s>", "<|endoftext|>", "<|end_of_text|>"];

/// A prompt and its answer, tokenised as one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Prompt and answer.
    pub ids: Vec<u32>,
    /// Index of the answer's first token; always below `ids.len()`.
    pub boundary: usize,
}

/// The tokenizer of a model, as its `tokenizer.json` describes it.
#[derive(Clone, Debug)]
pub struct Text {
    tokenizer: Tokenizer,
    vocab_size: usize,
    location: String,
}

impl Text {
    /// Reads the content of a `tokenizer.json`; `location` stands in messages. Padding and
    /// truncation settings stored in the file are ignored, because batches are laid out elsewhere
    /// and no text may lose its end silently.
    ///
    /// # Errors
    /// When the content is not a tokenizer.
    pub fn from_bytes(json: &[u8], location: &str) -> Result<Self> {
        let unusable = |error: tokenizers::Error| Error::Text {
            location: location.to_owned(),
            problem: format!(
                "tokenizer.json is unusable: {}; fetch it again",
                one_line(&error.to_string(), 300)
            ),
        };
        check(json).map_err(|problem| unusable(problem.into()))?;
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(unusable)?;
        tokenizer.with_truncation(None).map_err(unusable)?;
        tokenizer.with_padding(None);
        let highest = tokenizer.get_vocab(true).into_values().max();
        Ok(Self {
            tokenizer,
            vocab_size: highest.map_or(0, |id| id as usize + 1),
            location: location.to_owned(),
        })
    }

    /// One more than the highest id, which is the number of embedding rows that are needed.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id of a token, given as the vocabulary writes it.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// The token that ends a document (`</s>`, `<|endoftext|>`, …), if there is one.
    pub fn end_of_text(&self) -> Option<u32> {
        ENDS.iter().find_map(|token| self.token_id(token))
    }

    /// The ids of `text`, with the tokens that the tokenizer puts around every text (such as BOS)
    /// when `special`.
    ///
    /// # Errors
    /// When the tokenizer cannot represent `text`.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let encoding = self.tokenizer.encode_fast(text, special);
        match encoding {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(error) => {
                Err(self.error(format!("`{}` cannot be tokenised: {error}", opening(text))))
            }
        }
    }

    /// The text of `ids`, without special tokens when `skip_special`.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails; ids that it does not know are skipped.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.tokenizer
            .decode(ids, skip_special)
            .map_err(|error| self.error(format!("{} ids cannot be decoded: {error}", ids.len())))
    }

    /// Tokenises `prompt + " " + answer` as one text. The answer begins where the ids part from
    /// those of the prompt alone, which is the prompt's end unless the tokenizer merged across it.
    ///
    /// # Errors
    /// When the answer is empty or has no token of its own.
    pub fn joint_ids(&self, prompt: &str, answer: &str, special: bool) -> Result<Joined> {
        let alone = self.encode(prompt, special)?;
        let ids = self.encode(&format!("{prompt} {answer}"), special)?;
        let boundary = alone.iter().zip(&ids).take_while(|(a, b)| a == b).count();
        if answer.trim().is_empty() || boundary == ids.len() {
            return Err(self.error(format!(
                "the answer `{}` to `{}` has no token of its own; give a longer answer",
                opening(answer),
                opening(prompt)
            )));
        }
        Ok(Joined { ids, boundary })
    }

    /// [`Text::joint_ids`] of both answers to one prompt, with the smaller of the two boundaries
    /// for both, so that neither answer is scored on fewer of its tokens.
    ///
    /// # Errors
    /// As [`Text::joint_ids`], for either answer.
    pub fn joint_pair(
        &self,
        prompt: &str,
        y_more: &str,
        y_less: &str,
        special: bool,
    ) -> Result<(Joined, Joined)> {
        let mut more = self.joint_ids(prompt, y_more, special)?;
        let mut less = self.joint_ids(prompt, y_less, special)?;
        let boundary = more.boundary.min(less.boundary);
        more.boundary = boundary;
        less.boundary = boundary;
        Ok((more, less))
    }

    fn error(&self, problem: String) -> Error {
        Error::Text {
            location: self.location.clone(),
            problem,
        }
    }
}

/// Refuses what the tokenizer crate answers with a panic: a malformed decoder, and a template that
/// uses a token which it does not define.
fn check(json: &[u8]) -> std::result::Result<(), String> {
    #[derive(Deserialize)]
    struct Fragile {
        post_processor: Option<Value>,
        #[serde(rename = "decoder")]
        _decoder: Option<Value>,
    }

    fn undefined(processor: &Value) -> Option<String> {
        let list = |key: &str| processor[key].as_array().into_iter().flatten();
        let used = list("single").chain(list("pair"));
        used.filter_map(|piece| piece["SpecialToken"]["id"].as_str())
            .find(|id| processor["special_tokens"].get(id).is_none())
            .map(str::to_owned)
            .or_else(|| list("processors").find_map(undefined))
    }

    let fragile: Fragile = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    match fragile.post_processor.as_ref().and_then(undefined) {
        Some(token) => Err(format!(
            "the post-processor uses `{}` without defining it",
            opening(&token)
        )),
        None => Ok(()),
    }
}

/// The beginning of a text, for a message.
fn opening(text: &str) -> String {
    one_line(text, 40)
}

/// At most `longest` characters of `text`, none of which moves the cursor.
fn one_line(text: &str, longest: usize) -> String {
    let visible = text.chars().filter(|c| !c.is_control());
    visible.take(longest).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::train::tests::{CORPUS, KINDS, trained};
    use super::*;
    use crate::pixels::tests::fixtures;

    #[test]
    fn fixture_tokenizers_agree_with_the_reference() {
        let Some(dir) = fixtures() else { return };
        let mut cases = 0;
        for model in fs::read_dir(dir.join("models")).expect("the fixtures hold models") {
            let dir = model.expect("the folder is readable").path();
            let (Ok(json), Ok(expected)) = (
                fs::read(dir.join("tokenizer.json")),
                fs::read(dir.join("tokenizer_cases.json")),
            ) else {
                continue;
            };
            let location = dir.display().to_string();
            let text = Text::from_bytes(&json, &location).expect("published");
            let expected: Vec<Value> = serde_json::from_slice(&expected).expect("a list");
            for case in expected {
                let ids = |key: &str| -> Vec<u32> {
                    let list = case[key].as_array().expect("a list of ids");
                    list.iter()
                        .filter_map(Value::as_u64)
                        .map(|id| id as u32)
                        .collect()
                };
                let input = case["text"].as_str().expect("a text");
                let with = text.encode(input, true).expect("a text");
                assert_eq!(with, ids("ids"), "{location}: {input}");
                let without = text.encode(input, false).expect("a text");
                assert_eq!(without, ids("ids_no_special"), "{location}: {input}");
                let decoded = text.decode(&with, true).expect("known ids");
                assert_eq!(
                    Some(decoded.as_str()),
                    case["decoded"].as_str(),
                    "{location}"
                );
                assert!(with.iter().all(|id| (*id as usize) < text.vocab_size()));
                cases += 1;
            }
        }
        assert!(cases >= 160, "only {cases} cases were found");
    }

    #[test]
    fn stored_padding_and_truncation_are_ignored() {
        let json = train_byte_level_bpe(CORPUS.into_iter(), 300).expect("the vocabulary has room");
        let mut stored: Value = serde_json::from_slice(&json).expect("JSON");
        stored["truncation"] = serde_json::json!({
            "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0
        });
        stored["padding"] = serde_json::json!({
            "strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 1, "pad_type_id": 0, "pad_token": "<pad>"
        });
        let stored = Text::from_bytes(stored.to_string().as_bytes(), "x").expect("valid");
        let plain = Text::from_bytes(&json, "x").expect("valid");
        let ids = |text: &Text| text.encode(CORPUS[0], true).expect("a text");
        assert_eq!(ids(&stored), ids(&plain));
    }

    #[test]
    fn broken_tokenizers_are_refused_in_one_line() {
        let good = train_byte_level_bpe(CORPUS.into_iter(), 300).expect("the vocabulary has room");
        let good = String::from_utf8(good).expect("JSON is text");
        let template = r#""special_tokens":{"</s>":"#;
        let decoder = r#""decoder":{"type":"ByteLevel""#;
        for part in [template, decoder] {
            assert!(good.contains(part), "{good}");
        }
        for json in [
            "",
            "{}",
            "[1]",
            r#"{"version":"1.0","model":{"type":"BPE"}}"#,
            // The crate panics on these two.
            &good.replace(template, r#""special_tokens":{"<x>":"#),
            &good.replace(decoder, r#""decoder":{"type":"\\ud800""#),
            &good[..good.len() / 2],
        ] {
            let error = Text::from_bytes(json.as_bytes(), "DIR").expect_err("no tokenizer");
            let message = error.to_string();
            assert!(
                message.starts_with("DIR: tokenizer.json is unusable: "),
                "{message}"
            );
            assert!(!message.contains('\n'));
        }
    }

    #[test]
    fn an_answer_begins_where_the_prompt_ends() {
        let prompt = "Question: Who repairs the clock in the tower? Answer:";
        for train in KINDS {
            let text = trained(train, 400);
            let joined = text
                .joint_ids(prompt, "the nurse", true)
                .expect("an answer");
            let (front, answer) = joined.ids.split_at(joined.boundary);
            assert_eq!(front, text.encode(prompt, true).expect("a text"));
            // Ids from the joint text: tokenised alone, the byte-level answer lacks its space.
            assert_eq!(
                text.decode(answer, true).expect("known ids").trim(),
                "the nurse"
            );
            for nothing in ["", " ", "\n"] {
                let error = text
                    .joint_ids(prompt, nothing, true)
                    .expect_err("no answer");
                assert!(error.to_string().contains("has no token of its own"));
            }
            let empty = text.joint_ids("", "the nurse", true).expect("an answer");
            assert_eq!(empty.boundary, 1);
        }
    }

    #[test]
    fn a_merge_across_the_boundary_moves_it_left_for_both_answers() {
        // The one merge is that of two spaces: it takes the prompt's last token away.
        let json = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],
            "normalizer":null,"pre_tokenizer":null,"post_processor":null,"decoder":null,
            "model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,
            "end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,
            "vocab":{"a":0," ":1,"b":2,"c":3,"  ":4},"merges":[[" "," "]]}}"#;
        let text = Text::from_bytes(json.as_bytes(), "x").expect("valid");
        let joined = text.joint_ids("a ", "b", false).expect("an answer");
        assert_eq!(
            (joined.ids.as_slice(), joined.boundary),
            (&[0, 4, 2][..], 1)
        );
        let (more, less) = text.joint_pair("a", " b", "c", false).expect("two answers");
        assert_eq!(
            (more.ids.as_slice(), less.ids.as_slice()),
            (&[0, 4, 2][..], &[0, 1, 3][..])
        );
        assert_eq!((more.boundary, less.boundary), (1, 1));
        let same = text.joint_pair("a", "b", "b", false).expect("two answers");
        assert_eq!(same.0, same.1);
    }
}
