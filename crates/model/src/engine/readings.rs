//! Logits at positions, for what compares or mixes distributions.

use std::ops::Range;

use burn::tensor::Tensor;

use super::scoring::Placed;
use super::{Asked, Each, Engine, retry_in_halves};
use crate::batch::{ImageFeatures, Row};
use crate::error::{Error, Result};
use crate::score::batches;

/// Which positions of a row are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Those that predict the answer's tokens; behind a prompt without an answer, the next token.
    Answers,
    /// The last so many.
    Last(usize),
    /// All.
    Whole,
}

impl Wanted {
    /// The positions of `row`.
    pub fn of(self, row: &Row) -> Range<usize> {
        let n = row.ids.len();
        match self {
            Self::Answers if row.answer().is_empty() => n - 1..n,
            Self::Answers => row.answer_positions(),
            Self::Last(count) => n.saturating_sub(count)..n,
            Self::Whole => 0..n,
        }
    }
}

/// What a model predicts at some positions of a row.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The prompt and the answer in the tokens in which the model itself reads them.
    pub row: Row,
    /// The positions of that row.
    pub positions: Range<usize>,
    /// Of each position, `[positions, vocabulary]`.
    pub logits: Tensor<2>,
    /// Whether an edit had a part in them; else they are those of the never-edited model.
    pub edited: bool,
}

impl Engine<'_> {
    /// Logits at the wanted positions of every choice of each item, of the prompt alone where it has
    /// no choices. All are held at once: ask for few at a time.
    ///
    /// # Errors
    /// As [`Engine::choices`]; a choice that is longer than the model's positions is one here, too.
    pub fn logits(&self, asked: &[(Asked, Wanted)]) -> Each<Vec<Reading>> {
        let mut found: Vec<Result<Vec<(usize, Reading)>>> =
            asked.iter().map(|_| Ok(Vec::new())).collect();
        let mut refused = Vec::new();
        let all: Vec<&Asked> = asked.iter().map(|(asked, _)| asked).collect();
        self.each_group(
            &all,
            |item, error| refused.push((item, error)),
            |members, seen| {
                let (placed, unusable) = self.placed(&all, members);
                for (item, error) in unusable {
                    found[item] = Err(error);
                }
                let rows: Vec<&Row> = placed.iter().map(|placed| &placed.row.row).collect();
                let portion = self.portion(&rows)?;
                for batch in batches(&rows, portion.size) {
                    let wanted = |at: usize| asked[placed[at].item].1;
                    for (at, reading) in self.read_batch(&placed, &batch, wanted, seen)? {
                        if let Ok(readings) = &mut found[placed[at].item] {
                            readings.push((placed[at].choice, reading));
                        }
                    }
                }
                Ok(())
            },
        )?;
        for (item, error) in refused {
            found[item] = Err(error);
        }
        let found = found.into_iter().zip(&all);
        Ok(found
            .map(|(readings, asked)| in_choice_order(readings?, asked))
            .collect())
    }

    fn read_batch(
        &self,
        placed: &[Placed],
        batch: &[usize],
        wanted: impl Fn(usize) -> Wanted,
        seen: Option<&ImageFeatures>,
    ) -> Result<Vec<(usize, Reading)>> {
        let too_many = |n| self.watch.halved("lines", n);
        let read = retry_in_halves(batch, &too_many, &|batch| {
            let rows: Vec<Row> = batch.iter().map(|at| placed[*at].row.row.clone()).collect();
            // Of a row that was cut, the last token has no position of its own.
            let positions = self.model.decoder().outline().max_positions;
            let ranges = batch.iter().zip(&rows).map(|(at, row)| {
                let range = wanted(*at).of(row);
                range.start..range.end.min(positions)
            });
            let ranges: Vec<Range<usize>> = ranges.collect();
            let logits = self.model.logits_at(&rows, seen, &ranges, &self.view);
            let readings = rows.into_iter().zip(ranges).zip(logits);
            let readings = readings.map(|((row, positions), logits)| Reading {
                row,
                positions,
                logits,
                edited: false,
            });
            Ok::<_, Error>(batch.iter().copied().zip(readings).collect::<Vec<_>>())
        })?;
        Ok(read.into_iter().flatten().collect())
    }
}

/// The readings of an item in the order of its choices, each of which has one.
fn in_choice_order(mut readings: Vec<(usize, Reading)>, asked: &Asked) -> Result<Vec<Reading>> {
    readings.sort_by_key(|(choice, _)| *choice);
    if readings.len() < asked.choices.len() {
        return Err(Error::Prompt {
            prompt: asked.prompt.chars().take(60).collect(),
            problem: "has an answer with more tokens than the model has positions".into(),
        });
    }
    Ok(readings.into_iter().map(|(_, reading)| reading).collect())
}
