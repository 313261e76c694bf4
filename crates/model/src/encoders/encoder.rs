//! An encoder: a stack of blocks, a tokenizer, and how a text's vector is read.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Tensor};
use debias_weights::Checkpoint;
use serde_json::Value;

use super::family::EncoderParts;
use super::sentence::{self, Sentence};
use super::tokens::{Hidden, Tokens};
use super::{FAMILIES, family};
use crate::change::{Parameters, View};
use crate::complete::Complete;
use crate::decoders::Home;
use crate::device::Placement;
use crate::dtype::as_dtype;
use crate::error::{Error, Result};
use crate::host;
use crate::loader::{Loaded, Loader};
use crate::names::refuse_unused;
use crate::parallel::in_order;
use crate::parameter::Parameter;
use crate::text::Text;

/// Tokens of one batch, padding included. The cut depends on the texts alone, so that the number
/// of threads changes no result.
const BATCH_TOKENS: usize = 1024;

/// Texts that are tokenised as one piece of work.
const TEXTS_PER_PIECE: usize = 64;

/// A loaded encoder. Its weights are never written.
pub struct Encoder {
    name: String,
    location: String,
    parts: EncoderParts,
    text: Text,
    sentence: Sentence,
    sites: Vec<Parameter>,
    values: BTreeMap<String, Tensor<2>>,
    placement: Placement,
    notes: Vec<String>,
}

impl Encoder {
    /// Loads a checkpoint onto `device`. Where the folder says how a text's vector is read
    /// (`modules.json`, `1_Pooling`, `sentence_bert_config.json`), that holds; else it is the
    /// normalised mean.
    ///
    /// # Errors
    /// Anything unreadable, missing, misshapen, unknown or not finite, named.
    pub fn open(checkpoint: &Checkpoint, device: &Device) -> Result<Self> {
        let location = checkpoint.location();
        let config: Value = checkpoint.json("config.json")?;
        let home = Home {
            config: &config,
            within: "",
            prefix: "",
            location: &location,
        };
        checkpoint.refuse_quantised()?;
        let weights = Complete::new(checkpoint);
        let placement = Placement::from(device);
        let mut loader = Loader::new(&weights, &placement);
        let parts = (family(home)?.load)(&mut loader, home);
        weights.check()?;
        let parts = parts?;
        let Loaded { sites, values, .. } = loader.finish();
        let optional: Vec<&str> = parts.optional.iter().map(String::as_str).collect();
        refuse_unused(checkpoint, &sites, &optional)?;
        let text = Text::open(checkpoint)?;
        let text = text.embedded_in(parts.stack.vocabulary(), &[])?;
        Ok(Self {
            name: checkpoint.name().to_owned(),
            sentence: Sentence::read(checkpoint, parts.stack.positions())?,
            location,
            parts,
            text,
            sites,
            values,
            placement,
            notes: checkpoint.notes().to_vec(),
        })
    }

    /// Whether `checkpoint` says that it is an encoder.
    ///
    /// # Errors
    /// A malformed `config.json`.
    pub fn knows(checkpoint: &Checkpoint) -> Result<bool> {
        let config: Option<Value> = checkpoint.json_if_present("config.json")?;
        let named = config.as_ref().and_then(|config| config.get("model_type"));
        let named = named.and_then(Value::as_str);
        Ok(FAMILIES
            .iter()
            .any(|family| Some(family.model_type) == named))
    }

    /// The folder's or embedded model's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a person should know about how its folder was read; a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Length of a text's vector.
    pub fn width(&self) -> usize {
        self.parts.stack.width()
    }

    /// Tokens beyond which [`Encoder::embed`] leaves the end of a text out, special tokens
    /// included.
    pub fn longest(&self) -> usize {
        self.sentence.longest
    }

    /// The tokenizer.
    pub fn text(&self) -> &Text {
        &self.text
    }

    /// The classifier's labels by index, as `id2label` of `config.json` names them; empty for a
    /// model without a classifier.
    pub fn labels(&self) -> &[String] {
        &self.parts.labels
    }

    /// A text as [`Encoder::embed`] reads it: behind the prompt that the folder puts in front of
    /// every text, and cut to [`Encoder::longest`].
    ///
    /// # Errors
    /// When the tokenizer cannot represent it.
    pub fn tokens(&self, text: &str) -> Result<Tokens> {
        let mut text = format!("{}{text}", self.sentence.prompt);
        if self.sentence.lowercase {
            text = text.to_lowercase();
        }
        Ok(alone(
            self.text.encode_limited(&text, self.sentence.longest)?,
        ))
    }

    /// A text, or a pair of texts, as [`Encoder::classify`] reads it: whole.
    ///
    /// # Errors
    /// When the tokenizer cannot represent it, or it has more tokens than the model has positions.
    pub fn whole(&self, text: &str, second: Option<&str>) -> Result<Tokens> {
        let tokens = match second {
            None => alone(self.text.encode(text, true)?),
            Some(second) => {
                let (ids, types) = self.text.encode_pair(text, second)?;
                Tokens { ids, types }
            }
        };
        let (length, limit) = (tokens.ids.len(), self.parts.stack.positions());
        if length > limit {
            Err(Error::TooLong {
                text: text.chars().take(40).collect(),
                more: 0,
                length,
                limit,
            })
        } else {
            Ok(tokens)
        }
    }

    /// One pass over `rows`, which are padded to the longest. A view with one change per group of
    /// rows needs rows that fall into groups of equal size.
    ///
    /// # Errors
    /// Rows without tokens, with more of them than positions, or with ids that the model lacks.
    pub fn hidden(&self, rows: &[impl Borrow<Tokens>], view: &View) -> Result<Hidden> {
        let rows: Vec<&Tokens> = rows.iter().map(Borrow::borrow).collect();
        self.parts
            .stack
            .check(&rows)
            .map_err(|problem| Error::Text {
                location: self.location.clone(),
                problem,
            })?;
        Ok(Hidden {
            states: self.parts.stack.forward(&rows, view),
            lengths: rows.iter().map(|row| row.ids.len()).collect(),
        })
    }

    /// One vector per row `[b, d]`, in f32 where `view` computes in less, before it is normalised.
    pub fn pool(&self, hidden: &Hidden, view: &View) -> Tensor<2> {
        self.sentence.pooling.pool(hidden, view)
    }

    /// Sentence embeddings `[b, d]`: [`Encoder::pool`], of length 1 where the model asks for that.
    pub fn sentences(&self, hidden: &Hidden, view: &View) -> Tensor<2> {
        let pooled = self.pool(hidden, view);
        if self.sentence.normalised {
            sentence::normalised(pooled)
        } else {
            pooled
        }
    }

    /// The first token through the head's dense layer and its activation, `[b, d]` in f32 (BERT's
    /// `pooler_output`); `None` for a model without such a layer.
    pub fn summary(&self, hidden: &Hidden, view: &View) -> Option<Tensor<2>> {
        let head = self.parts.head.as_ref()?;
        let summary = head.summary(&hidden.states, view).squeeze_dim(1);
        Some(as_dtype(summary, DType::F32))
    }

    /// Logits `[b, labels]` in f32 of the classifier on top of [`Encoder::summary`].
    ///
    /// # Errors
    /// A model without a classifier.
    pub fn logits(&self, hidden: &Hidden, view: &View) -> Result<Tensor<2>> {
        let head = self.parts.head.as_ref();
        let logits = head.and_then(|head| head.logits(&hidden.states, view));
        let logits = logits.ok_or_else(|| Error::Config {
            location: self.location.clone(),
            field: "architectures".into(),
            problem: "names a model without a sequence classifier (`classifier.weight`); give a checkpoint that has one".into(),
        })?;
        Ok(as_dtype(logits.squeeze_dim(1), DType::F32))
    }

    /// Sentence embeddings of `texts`, in their order; `view` holds one change for all of them.
    ///
    /// # Errors
    /// When a text cannot be tokenised, or an embedding is not finite.
    pub fn embed(&self, texts: &[&str], view: &View) -> Result<Vec<Vec<f32>>> {
        let rows = tokenised(texts, |text| self.tokens(text))?;
        self.batched(&rows, view, |hidden| Ok(self.sentences(hidden, view)))
    }

    /// Logits of `inputs`, texts or pairs of texts, in their order, each as long as
    /// [`Encoder::labels`].
    ///
    /// # Errors
    /// A model without a classifier; an input that cannot be tokenised or is too long; logits that
    /// are not finite.
    pub fn classify(&self, inputs: &[(&str, Option<&str>)]) -> Result<Vec<Vec<f32>>> {
        let view = View::base();
        let rows = tokenised(inputs, |(text, second)| self.whole(text, *second))?;
        self.batched(&rows, &view, |hidden| self.logits(hidden, &view))
    }

    /// Runs `rows` in batches of similar length and reads one vector from each row.
    fn batched(
        &self,
        rows: &[Tokens],
        view: &View,
        read: impl Fn(&Hidden) -> Result<Tensor<2>> + Sync,
    ) -> Result<Vec<Vec<f32>>> {
        let batches = batches(rows);
        let workers = self.placement.workers(rayon::current_num_threads());
        let vectors = in_order(batches.len(), workers, |at| {
            let batch: Vec<&Tokens> = batches[at].iter().map(|row| &rows[*row]).collect();
            let values = host::values(read(&self.hidden(&batch, view)?)?);
            if values.iter().all(|value| value.is_finite()) {
                Ok(values)
            } else {
                Err(Error::NotFinite {
                    what: format!("an output of {}", self.name),
                })
            }
        })?;
        let mut results = vec![Vec::new(); rows.len()];
        for (batch, values) in batches.iter().zip(vectors) {
            let width = values.len() / batch.len();
            for (row, vector) in batch.iter().zip(values.chunks(width)) {
                results[*row] = vector.to_vec();
            }
        }
        Ok(results)
    }
}

impl Parameters for Encoder {
    fn parameters(&self) -> &[Parameter] {
        &self.sites
    }

    fn value(&self, name: &str) -> Option<Tensor<2>> {
        Some(as_dtype(self.values.get(name)?.clone(), DType::F32))
    }
}

/// A single text.
fn alone(ids: Vec<u32>) -> Tokens {
    Tokens {
        types: vec![0; ids.len()],
        ids,
    }
}

fn tokenised<T: Sync>(
    inputs: &[T],
    tokens: impl Fn(&T) -> Result<Tokens> + Sync,
) -> Result<Vec<Tokens>> {
    let pieces: Vec<&[T]> = inputs.chunks(TEXTS_PER_PIECE).collect();
    let rows = in_order(pieces.len(), rayon::current_num_threads(), |at| {
        pieces[at].iter().map(&tokens).collect::<Result<Vec<_>>>()
    })?;
    Ok(rows.into_iter().flatten().collect())
}

/// Indices of `rows`, shortest first, cut where a padded batch would hold more than
/// [`BATCH_TOKENS`].
fn batches(rows: &[Tokens]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|row| rows[*row].ids.len());
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for row in order {
        let width = rows[row].ids.len();
        match batches.last_mut() {
            Some(batch) if (batch.len() + 1) * width <= BATCH_TOKENS => batch.push(row),
            _ => batches.push(vec![row]),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_every_row_once_and_no_more_tokens_than_allowed() {
        let lengths = [600, 3, 700, 2, 1, 300, 300, 300, 2000];
        let rows: Vec<Tokens> = lengths.iter().map(|n| alone(vec![0; *n])).collect();
        let expected = [vec![4, 3, 1], vec![5, 6, 7], vec![0], vec![2], vec![8]];
        assert_eq!(batches(&rows), expected);
    }
}
