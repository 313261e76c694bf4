//! A model as it answers now: unedited, behind a change of weights, another model in its place, or
//! under an edit of its input or output.

use std::collections::HashMap;
use std::sync::Mutex;

use debias_core::{Decoding, LocalityScore};
use debias_model::engine::{Asked, Engine, Reading, Wanted, Written};
use debias_model::{
    AnswerLikelihood, Continuation, ImageFeatures, Limits, Model, Steps, answer_likelihoods,
    continued, locality_of_pairs,
};

use crate::error::{Error, Result};

/// An answer to each item, in their order. The error of an item costs no other its answer; the outer
/// one ends all.
pub type Each<T> = Result<Vec<Result<T>>>;

/// Somebody who answers.
pub trait Respondent: Send + Sync {
    /// The model that reads: its tokens, its positions, its vocabulary.
    fn model(&self) -> &Model;

    /// What the vision tower makes of the picture `key`.
    ///
    /// # Errors
    /// A picture that cannot be read, or a text model.
    fn see(&self, key: &str) -> Result<ImageFeatures>;

    /// The log-likelihood of every choice of each item; `None` for a choice that alone is longer than
    /// the model's positions.
    ///
    /// # Errors
    /// Of an item: what cannot be read, tokenised or scored. Of all: a lost device, or no room for one.
    fn choices(&self, asked: &[Asked]) -> Each<Vec<Option<AnswerLikelihood>>>;

    /// The logits at the wanted positions of every choice of each item. All are held at once: ask for
    /// few at a time.
    ///
    /// # Errors
    /// As [`Respondent::choices`].
    fn logits(&self, asked: &[(Asked, Wanted)]) -> Each<Vec<Reading>>;

    /// One prompt, read and ready to be continued by at most `more` tokens.
    ///
    /// # Errors
    /// As [`Respondent::choices`].
    fn begin<'s>(&'s self, asked: &Asked, more: usize) -> Result<Box<dyn Steps + 's>>;

    /// The continuations of each prompt, one unless `how` says more.
    ///
    /// # Errors
    /// As [`Respondent::choices`].
    fn write(&self, asked: &[Asked], how: &Decoding) -> Each<Vec<Written>> {
        let model = self.model();
        let limits = Limits::of(model, how);
        let written = asked.iter().map(|asked| {
            let mut steps = self.begin(asked, how.max_tokens)?;
            let names = [asked.name.as_str()];
            let ids = continued(steps.as_mut(), &names, &how.choosing, &limits).swap_remove(0)?;
            Ok(Written::all(model, ids, how)?)
        });
        Ok(written.collect())
    }
}

/// Pictures whose features are remembered: some respondents look at one again for every question.
const PICTURES: usize = 32;

/// A model looked at through one view: the base, a change of weights, or another folder's model.
pub struct Direct<'a> {
    engine: Engine<'a>,
    /// Whether the view is that of an edit.
    edited: bool,
    seen: Mutex<HashMap<String, ImageFeatures>>,
}

impl<'a> Direct<'a> {
    /// The model of `engine` as it is.
    pub fn base(engine: Engine<'a>) -> Self {
        Self {
            engine,
            edited: false,
            seen: Mutex::default(),
        }
    }

    /// The model of `engine`, whose view is that of an edit.
    pub fn edited(engine: Engine<'a>) -> Self {
        Self {
            engine,
            edited: true,
            seen: Mutex::default(),
        }
    }
}

impl Respondent for Direct<'_> {
    fn model(&self) -> &Model {
        self.engine.model
    }

    fn see(&self, key: &str) -> Result<ImageFeatures> {
        let mut seen = self
            .seen
            .lock()
            .unwrap_or_else(|poison| poison.into_inner());
        if let Some(known) = seen.get(key) {
            return Ok(known.clone());
        }
        let picture = self.engine.pictures.picture(key);
        let picture = picture.map_err(debias_model::Error::from)?;
        let found = self.engine.model.see(&[&picture], &self.engine.view)?;
        if seen.len() == PICTURES {
            seen.clear();
        }
        seen.insert(key.to_owned(), found.clone());
        Ok(found)
    }

    fn choices(&self, asked: &[Asked]) -> Each<Vec<Option<AnswerLikelihood>>> {
        each(self.engine.choices(asked))
    }

    fn logits(&self, asked: &[(Asked, Wanted)]) -> Each<Vec<Reading>> {
        let mut found = each(self.engine.logits(asked))?;
        for reading in found.iter_mut().flatten().flatten() {
            reading.edited = self.edited;
        }
        Ok(found)
    }

    fn begin<'s>(&'s self, asked: &Asked, more: usize) -> Result<Box<dyn Steps + 's>> {
        let seen = asked
            .image
            .as_deref()
            .map(|key| self.see(key))
            .transpose()?;
        let picture = seen.as_ref().map(|seen| seen.image_ref(0));
        let model = self.engine.model;
        let row = asked.prompt_row(model, picture, more)?;
        let view = &self.engine.view;
        Ok(Box::new(Continuation::of(
            model,
            vec![row],
            seen.as_ref(),
            view,
        )))
    }

    fn write(&self, asked: &[Asked], how: &Decoding) -> Each<Vec<Written>> {
        each(self.engine.write(asked, how))
    }
}

/// What `ask` answers to the items as `put` changes them; an item that cannot be changed is not asked.
///
/// # Errors
/// The outer error of `ask`.
pub(crate) fn passed_on<A, B, T>(
    asked: &[A],
    put: impl Fn(&A) -> Result<B>,
    ask: impl FnOnce(Vec<B>) -> Each<T>,
) -> Each<T> {
    let (mut changed, mut refused) = (Vec::new(), Vec::new());
    for (at, item) in asked.iter().enumerate() {
        match put(item) {
            Ok(item) => changed.push(item),
            Err(error) => refused.push((at, error)),
        }
    }
    let mut answers = if changed.is_empty() {
        Vec::new()
    } else {
        ask(changed)?
    };
    // In rising order, so that each finds those in front of it in place.
    for (at, error) in refused {
        answers.insert(at.min(answers.len()), Err(error));
    }
    Ok(answers)
}

/// The log-likelihood of the answer of each reading of answer positions.
///
/// # Errors
/// Logits that are not finite.
pub(crate) fn likelihoods(readings: &[Reading]) -> Result<Vec<AnswerLikelihood>> {
    let of = |reading: &Reading| {
        let row = std::slice::from_ref(&reading.row);
        let found = answer_likelihoods(row, reading.logits.clone().unsqueeze())?;
        Ok(found.into_iter().next().unwrap_or_default())
    };
    readings.iter().map(of).collect()
}

/// How far `edited` is from `base`, which has all positions of its row: at the positions that `edited`
/// has, as locality compares them.
///
/// # Errors
/// Logits that are not finite.
pub(crate) fn compared(base: &Reading, edited: Reading) -> Result<LocalityScore> {
    let first = edited.positions.start;
    let answers = base.row.answer_positions();
    let answers = answers.start.saturating_sub(first)..answers.end.saturating_sub(first);
    let ids = base.row.answer();
    let ids = &ids[ids.len() - answers.len()..];
    let n = edited.positions.len();
    let before = base
        .logits
        .clone()
        .narrow(0, first - base.positions.start, n);
    Ok(locality_of_pairs(before, edited.logits, answers, ids)?)
}

/// The same answers with this crate's errors.
fn each<T>(found: debias_model::engine::Each<T>) -> Each<T> {
    let of_item = |answer: debias_model::Result<T>| answer.map_err(Error::from);
    Ok(found?.into_iter().map(of_item).collect())
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use debias_model::host;

    use debias_model::Row;

    use super::*;

    #[test]
    fn answers_are_counted_within_what_is_compared() {
        let row = Row {
            ids: vec![1, 2, 3, 4, 5],
            image: None,
            answer_start: 3,
        };
        let reading = |positions: std::ops::Range<usize>| {
            let values = positions
                .clone()
                .flat_map(|p| (4 * p..4 * p + 4).map(|i| i as f32));
            Reading {
                row: row.clone(),
                logits: host::tensor(values.collect(), [positions.len(), 4], &Device::flex()),
                positions,
                edited: true,
            }
        };
        // Only the last two are compared, the first answer token's predictor is not among them.
        let score = compared(&reading(0..5), reading(3..5)).expect("finite");
        assert_eq!((score.positions, score.answer_positions), (2, 1));
        assert_eq!((score.top1_kept, score.kl), (2, 0.0));
    }
}
