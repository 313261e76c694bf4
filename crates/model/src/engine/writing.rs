//! Continuations of prompts, in batches.

use debias_core::Decoding;

use super::pictures::Member;
use super::{Asked, Each, Engine, retry_in_halves};
use crate::batch::{ImageFeatures, Row};
use crate::choosing::continued;
use crate::error::{Error, Result};
use crate::generate::{Continuation, Limits};
use crate::model::Model;

/// Prompts continued together.
const PROMPTS: usize = 16;

/// Rows of samples or beams continued together, those of one prompt at least.
const ROWS: usize = 128;

/// A continuation; the token that ended it and what follows a stop text are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Its text.
    pub text: String,
    /// The tokens that were added, those behind a stop text included.
    pub tokens: Vec<u32>,
}

impl Engine<'_> {
    /// Continues each prompt as `how` says, once or several times; a prompt is read once.
    ///
    /// # Errors
    /// Of an item: a picture that cannot be read, a prompt that cannot be tokenised or has no room
    /// for its continuation, or logits that are not finite. Of all: a lost device.
    pub fn write(&self, asked: &[Asked], how: &Decoding) -> Each<Vec<Written>> {
        let mut found: Vec<Result<Vec<Written>>> = asked.iter().map(|_| Ok(Vec::new())).collect();
        let together = (ROWS / how.choosing.count().max(1)).clamp(1, PROMPTS);
        let mut refused = Vec::new();
        let all: Vec<&Asked> = asked.iter().collect();
        self.each_group(
            &all,
            |item, error| refused.push((item, error)),
            |members, seen| {
                for members in members.chunks(together) {
                    for (item, written) in self.written(asked, members, seen, how)? {
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

    fn written(
        &self,
        asked: &[Asked],
        members: &[Member],
        seen: Option<&ImageFeatures>,
        how: &Decoding,
    ) -> Result<Vec<(usize, Result<Vec<Written>>)>> {
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
            let names: Vec<&str> = some
                .iter()
                .map(|(item, _)| asked[*item].name.as_str())
                .collect();
            let mut steps = Continuation::of(self.model, rows, seen, &self.view);
            Ok::<_, Error>(continued(&mut steps, &names, &how.choosing, &limits))
        })?;
        let added = rows.iter().zip(added.into_iter().flatten());
        let written = added.map(|((item, _), ids)| {
            (
                *item,
                ids.and_then(|ids| Written::all(self.model, ids, how)),
            )
        });
        Ok(found.into_iter().chain(written).collect())
    }
}

impl Written {
    /// [`Written::of`] each of the continuations of one prompt.
    ///
    /// # Errors
    /// Tokens that cannot be decoded.
    pub fn all(model: &Model, ids: Vec<Vec<u32>>, how: &Decoding) -> Result<Vec<Self>> {
        ids.into_iter()
            .map(|ids| Self::of(model, ids, how))
            .collect()
    }

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
