//! Log-likelihoods of answers, in batches.

use rayon::prelude::*;

use super::asked::ChoiceRow;
use super::pictures::Member;
use super::{Asked, Each, Engine, Portion, retry_in_halves};
use crate::batch::{ImageFeatures, Row};
use crate::error::{Error, Result};
use crate::likelihood::AnswerLikelihood;
use crate::parallel::{Workers, in_order};
use crate::score::batches;

/// Tokens per batch unless somebody asks for another number.
const TOKENS: usize = 2048;

/// The same on a card.
const TOKENS_ON_CARD: usize = 4096;

/// Positions whose logits are held at once, at most.
const POSITIONS: usize = 256;

/// One row to be computed: which choice of which item it is.
pub(super) struct Placed {
    pub item: usize,
    pub choice: usize,
    pub row: ChoiceRow,
}

impl Engine<'_> {
    /// The log-likelihood of every choice of each item; `None` for a choice that alone is longer than
    /// the model's positions ([`Joining::Harness`](super::Joining::Harness)).
    ///
    /// # Errors
    /// Of an item: a picture that cannot be read, a text that cannot be tokenised or is too long, or
    /// logits that are not finite. Of all: no room for one, or a lost device.
    pub fn choices(&self, asked: &[Asked]) -> Each<Vec<Option<AnswerLikelihood>>> {
        let mut found: Vec<Result<Vec<Option<AnswerLikelihood>>>> = asked
            .iter()
            .map(|asked| Ok(vec![None; asked.choices.len()]))
            .collect();
        let mut refused = Vec::new();
        let all: Vec<&Asked> = asked.iter().collect();
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
                let batches = batches(&rows, portion.size);
                let scored = self.likelihoods(&rows, &batches, seen, portion.workers)?;
                for (at, score) in batches.iter().flatten().zip(scored.into_iter().flatten()) {
                    let Placed { item, choice, row } = &placed[*at];
                    match (&mut found[*item], score.finite()) {
                        (Ok(choices), Ok(score)) => {
                            choices[*choice] = Some(AnswerLikelihood {
                                cut: row.cut,
                                ..score
                            });
                        }
                        (Ok(_), Err(error)) => found[*item] = Err(error),
                        (Err(_), _) => {}
                    }
                }
                Ok(())
            },
        )?;
        for (item, error) in refused {
            found[item] = Err(error);
        }
        Ok(found)
    }

    /// The rows of `members`, in order, and the items that have none.
    pub(super) fn placed(
        &self,
        asked: &[&Asked],
        members: &[Member],
    ) -> (Vec<Placed>, Vec<(usize, Error)>) {
        let rows: Vec<_> = members
            .par_iter()
            .map(|(item, picture)| asked[*item].rows(self.model, *picture))
            .collect();
        let (mut placed, mut refused) = (Vec::new(), Vec::new());
        for ((item, _), rows) in members.iter().zip(rows) {
            match rows {
                Ok(rows) => {
                    placed.extend(rows.into_iter().enumerate().filter_map(|(choice, row)| {
                        Some(Placed {
                            item: *item,
                            choice,
                            row: row?,
                        })
                    }))
                }
                Err(error) => refused.push((*item, error)),
            }
        }
        (placed, refused)
    }

    /// Tokens of a batch of `rows`, and batches computed beside each other: what was asked for or is
    /// usual, or what fits into the memory that may be taken.
    pub(super) fn portion(&self, rows: &[&Row]) -> Result<Portion> {
        let placement = self.model.placement();
        let usual = if placement.uses_card() {
            TOKENS_ON_CARD
        } else {
            TOKENS
        };
        let asked = Portion {
            size: self.batching.tokens.unwrap_or(usual),
            workers: placement.workers(rayon::current_num_threads()),
        };
        let Some(room) = self.model.room() else {
            return Ok(asked);
        };
        let longest = rows.iter().map(|row| row.ids.len()).max().unwrap_or(1);
        let shapes = self.model.footprint();
        // What rows begin with is remembered once for all of them, and once for each.
        let each = shapes.rows(1, longest) + 2 * shapes.memory(1, longest);
        let in_rows = Portion {
            size: asked.size.div_ceil(longest),
            ..asked
        };
        let fit = in_rows.within(room.saturating_sub(shapes.logits(POSITIONS)), each, "line")?;
        Ok(Portion {
            size: asked.size.min(fit.size * longest),
            ..fit
        })
    }

    /// Scores batch by batch: a thread for each where there are enough of them, because a pass is
    /// not parallel in all its parts; else all threads for one after the other.
    fn likelihoods(
        &self,
        rows: &[&Row],
        batches: &[Vec<usize>],
        seen: Option<&ImageFeatures>,
        workers: Workers,
    ) -> Result<Vec<Vec<AnswerLikelihood>>> {
        let too_many = |n| self.watch.halved("lines", n);
        let score = |at: usize| -> Result<_> {
            let scored = retry_in_halves(&batches[at], &too_many, &|batch| {
                let part: Vec<Row> = batch.iter().map(|row| rows[*row].clone()).collect();
                Ok::<_, Error>(
                    self.model
                        .likelihoods(&part, seen, &self.view, self.batching.apart),
                )
            })?;
            Ok(scored.concat())
        };
        if batches.len() >= workers.count() {
            in_order(batches.len(), workers, score)
        } else {
            (0..batches.len()).map(score).collect()
        }
    }
}
