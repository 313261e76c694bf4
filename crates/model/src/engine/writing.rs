//! Continuations of prompts, in batches.

use debias_core::Decoding;

use super::pictures::Member;
use super::{Asked, Each, Engine, retry_in_halves};
use crate::batch::{ImageFeatures, Row};
use crate::error::{Error, Result};
use crate::generate::{Continuation, Limits, greedy};
use crate::model::Model;

/// Rows continued together.
const ROWS: usize = 16;

/// A continuation; the token that ended it and what follows a stop text are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Its text.
    pub text: String,
    /// The tokens that were added, those behind a stop text included.
    pub tokens: Vec<u32>,
}

impl Engine<'_> {
    /// Continues each prompt greedily; at equal logits the lower id is taken.
    ///
    /// # Errors
    /// Of an item: a picture that cannot be read, a prompt that cannot be tokenised or has no room
    /// for its continuation, or logits that are not finite. Of all: a lost device.
    pub fn write(&self, asked: &[Asked], how: &Decoding) -> Each<Written> {
        let mut found: Vec<Result<Written>> =
            asked.iter().map(|_| Ok(Written::default())).collect();
        let mut refused = Vec::new();
        let all: Vec<&Asked> = asked.iter().collect();
        self.each_group(
            &all,
            |item, error| refused.push((item, error)),
            |members, seen| {
                for members in members.chunks(ROWS) {
                    for (item, written) in self.continued(asked, members, seen, how)? {
                        found[item] = written;
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

    fn continued(
        &self,
        asked: &[Asked],
        members: &[Member],
        seen: Option<&ImageFeatures>,
        how: &Decoding,
    ) -> Result<Vec<(usize, Result<Written>)>> {
        let (mut rows, mut found) = (Vec::new(), Vec::new());
        for (item, picture) in members {
            match asked[*item].prompt_row(self.model, *picture, how.max_tokens) {
                Ok(row) => rows.push((*item, row)),
                Err(error) => found.push((*item, Err(error))),
            }
        }
        if rows.is_empty() {
            return Ok(found);
        }
        let limits = Limits::of(self.model, how);
        let too_many = |n| self.watch.halved("prompts", n);
        let added = retry_in_halves(&rows, &too_many, &|some| {
            let rows: Vec<Row> = some.iter().map(|(_, row)| row.clone()).collect();
            let n = rows.len();
            let mut steps = Continuation::of(self.model, rows, seen, &self.view);
            Ok::<_, Error>(greedy(&mut steps, n, &limits))
        })?;
        let added = rows.iter().zip(added.into_iter().flatten());
        let written = added.map(|((item, _), ids)| {
            let written = ids.and_then(|ids| Written::of(self.model, ids, how));
            (*item, written)
        });
        Ok(found.into_iter().chain(written).collect())
    }
}

impl Written {
    /// From the tokens that were added: without the one that ends a text, and without what stands
    /// behind a stop text.
    ///
    /// # Errors
    /// Tokens that cannot be decoded.
    pub fn of(model: &Model, mut tokens: Vec<u32>, how: &Decoding) -> Result<Self> {
        let ends = Limits::of(model, how).stops;
        tokens.pop_if(|last| ends.contains(last));
        let mut text = model.text().decode(&tokens, true)?;
        let stops = how.stops.iter();
        if let Some(at) = stops.filter_map(|stop| text.find(stop.as_str())).min() {
            text.truncate(at);
        }
        Ok(Self { text, tokens })
    }
}
