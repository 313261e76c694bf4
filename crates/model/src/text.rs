//! Text to tokens and back.

mod class;
mod folder;
mod marks;
mod tiktoken;
mod train;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::models::ModelWrapper;
use tokenizers::utils::truncation::TruncationDirection;
use tokenizers::{Encoding, PostProcessor, Token, Tokenizer};

use crate::error::{Error, Result};

pub use marks::Marks;
pub use train::{train_byte_level_bpe, train_metaspace_bpe};

/// The token whose embeddings are replaced by image vectors.
pub const IMAGE_TOKEN: &str = "<image>";

/// Tokens that published tokenizers end a document with, most common first.
const ENDS: [&str; 3] = ["</s>", "<|endoftext|>", "<|end_of_text|>"];

/// Tokens without a row by which a tokenizer may exceed its model's table.
const FEW: usize = 64;

/// A prompt and its answer, tokenised as one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Prompt and answer.
    pub ids: Vec<u32>,
    /// Index of the answer's first token; always below `ids.len()`.
    pub boundary: usize,
}

/// The tokenizer of a model.
#[derive(Clone, Debug)]
pub struct Text {
    tokenizer: Tokenizer,
    vocab_size: usize,
    /// Tokens that the tokenizer puts behind every text, and that [`Text::encode`] leaves out.
    behind: usize,
    embedded: Embedded,
    location: String,
}

/// The tokens that the model has rows for.
#[derive(Clone, Debug)]
struct Embedded {
    rows: usize,
    /// Ids that are never looked up, because vectors of a picture stand in their place.
    markers: Vec<u32>,
}

impl Text {
    /// Reads the content of a `tokenizer.json`; `location` stands in messages. Padding and
    /// truncation settings stored in the file are ignored, because batches are laid out elsewhere
    /// and no text may lose its end silently; so is dropout, which would give a text other tokens
    /// every time.
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
        Ok(Self::around(tokenizer, location))
    }

    fn around(mut tokenizer: Tokenizer, location: &str) -> Self {
        if let ModelWrapper::BPE(pairs) = tokenizer.get_model()
            && pairs.dropout.is_some()
        {
            let mut pairs = pairs.clone();
            pairs.dropout = None;
            tokenizer.with_model(pairs);
        }
        let highest = tokenizer.get_vocab(true).into_values().max();
        let vocab_size = highest.map_or(0, |id| id as usize + 1);
        Self {
            tokenizer,
            vocab_size,
            behind: 0,
            embedded: Embedded {
                rows: vocab_size,
                markers: Vec::new(),
            },
            location: location.to_owned(),
        }
    }

    /// The same tokenizer for texts that go on: what it puts behind a text, such as an end token, is
    /// left out by [`Text::encode`]. A decoder would read it as the text's end.
    ///
    /// # Errors
    /// When the tokenizer's post-processor fails.
    pub(crate) fn open_ended(mut self) -> Result<Self> {
        // An id that no vocabulary has.
        const STAND_IN: u32 = u32::MAX;
        let text = Encoding::from_tokens(vec![Token::new(STAND_IN, "a".into(), (0, 1))], 0);
        let around = self.tokenizer.post_process(text, None, true);
        let around = around.map_err(|error| self.untokenised("", &error))?;
        let mut ids = around.get_ids().iter().rev();
        self.behind = ids.position(|id| *id == STAND_IN).unwrap_or(0);
        Ok(self)
    }

    /// The same tokenizer for a model with `rows` embeddings. Some have a few more tokens, added for
    /// training and never said: a text with one of them is refused, those in `markers` apart, whose
    /// place the vectors of a picture take.
    ///
    /// # Errors
    /// So many tokens more that the tokenizer is another model's.
    pub(crate) fn embedded_in(mut self, rows: usize, markers: &[u32]) -> Result<Self> {
        if self.vocab_size > rows + FEW {
            return Err(self.error(format!(
                "tokenizer.json has {} tokens but the embedding only {rows} rows; use the tokenizer of this checkpoint",
                self.vocab_size
            )));
        }
        self.embedded = Embedded {
            rows,
            markers: markers.to_vec(),
        };
        Ok(self)
    }

    /// Refuses `ids`, those of `text`, of which one has no embedding.
    fn check_rows(&self, ids: &[u32], text: &str) -> Result<()> {
        let Embedded { rows, markers } = &self.embedded;
        let beyond = |id: &&u32| **id as usize >= *rows && !markers.contains(id);
        let Some(id) = ids.iter().find(beyond) else {
            return Ok(());
        };
        let token = self.token_text(*id).unwrap_or_default();
        Err(self.error(format!(
            "`{}` has the token `{}` of number {id}, but the embedding only {rows} rows; leave it out, or use the tokenizer of this checkpoint",
            opening(text),
            opening(&token)
        )))
    }

    /// One more than the highest id, which is the number of embedding rows that are needed.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id of a token, given as the vocabulary writes it.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// The id of a token that the model cannot do without, such as its image placeholder.
    ///
    /// # Errors
    /// When the vocabulary lacks it; the message names it.
    pub fn required_id(&self, token: &str) -> Result<u32> {
        self.token_id(token).ok_or_else(|| {
            self.error(format!(
                "the tokenizer has no token `{}`; fetch the tokenizer that belongs to this model",
                opening(token)
            ))
        })
    }

    /// The token with this id, as the vocabulary writes it.
    pub fn token_text(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// The token that ends a document (`</s>`, `<|endoftext|>`, …), if there is one.
    pub fn end_of_text(&self) -> Option<u32> {
        ENDS.iter().find_map(|token| self.token_id(token))
    }

    /// Whether `text` itself begins with the tokens that open every text (such as BOS), as
    /// rendered chat templates do.
    ///
    /// # Errors
    /// When the tokenizer cannot represent `text`.
    pub fn is_opened(&self, text: &str) -> Result<bool> {
        let opening = self.encode("", true)?;
        Ok(!opening.is_empty() && self.encode(text, false)?.starts_with(&opening))
    }

    /// The ids of `text`, with the tokens that the tokenizer puts around every text (such as BOS)
    /// when `special`; of a decoder's tokenizer without those behind it (such as an end token).
    ///
    /// # Errors
    /// When the tokenizer cannot represent `text`, or the model has no embedding of one of its tokens.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let encoding = self.tokenizer.encode_fast(text, special);
        let encoding = encoding.map_err(|error| self.untokenised(text, &error))?;
        let mut ids = encoding.get_ids().to_vec();
        if special {
            ids.truncate(ids.len().saturating_sub(self.behind));
        }
        self.check_rows(&ids, text)?;
        Ok(ids)
    }

    /// The ids of each piece, tokenised on its own; with `special`, the first alone gets what
    /// [`Text::encode`] puts around a text. Models of MiniGPT-4's kind put image vectors between
    /// the pieces.
    ///
    /// # Errors
    /// As [`Text::encode`].
    pub fn encode_pieces(&self, pieces: &[&str], special: bool) -> Result<Vec<Vec<u32>>> {
        let pieces = pieces.iter().enumerate();
        pieces
            .map(|(index, piece)| self.encode(piece, special && index == 0))
            .collect()
    }

    /// The ids of two texts as one input (`[CLS] a [SEP] b [SEP]`), with special tokens, and for
    /// each id the number of its segment.
    ///
    /// # Errors
    /// As [`Text::encode`].
    pub fn encode_pair(&self, a: &str, b: &str) -> Result<(Vec<u32>, Vec<u32>)> {
        let encoding = self.tokenizer.encode_fast((a, b), true);
        let encoding = encoding.map_err(|error| self.untokenised(a, &error))?;
        self.check_rows(encoding.get_ids(), a)?;
        Ok((
            encoding.get_ids().to_vec(),
            encoding.get_type_ids().to_vec(),
        ))
    }

    /// The ids of `text` with special tokens, of which there are at most `longest`: the end of the
    /// text is left out, the special tokens are not.
    ///
    /// # Errors
    /// As [`Text::encode`], and when `longest` leaves no room beside the special tokens.
    pub fn encode_limited(&self, text: &str, longest: usize) -> Result<Vec<u32>> {
        let processor = self.tokenizer.get_post_processor();
        let special = processor.map_or(0, |processor| processor.added_tokens(false));
        if longest <= special {
            return Err(self.error(format!(
                "a limit of {longest} tokens leaves no room beside {special} special tokens; \
                 raise the model's longest input"
            )));
        }
        let encoding = self.tokenizer.encode_fast(text, false);
        let limited = encoding.and_then(|mut encoding| {
            encoding.truncate(longest - special, 0, TruncationDirection::Right);
            self.tokenizer.post_process(encoding, None, true)
        });
        let limited = limited.map_err(|error| self.untokenised(text, &error))?;
        self.check_rows(limited.get_ids(), text)?;
        Ok(limited.get_ids().to_vec())
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

    fn untokenised(&self, text: &str, error: &tokenizers::Error) -> Error {
        self.error(format!("`{}` cannot be tokenised: {error}", opening(text)))
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
pub(crate) fn one_line(text: &str, longest: usize) -> String {
    let visible = text.chars().filter(|c| !c.is_control());
    visible.take(longest).collect()
}

#[cfg(test)]
mod tests;
