//! Where every row of the output comes from, for every model.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::messages::{counted, listed, refused};
use super::setting::{TokenRowSource, TokenRule};
use super::speaker::Speaker;
use super::tokens::Tokens;
use crate::error::Result;
use crate::stream::VocabularyRow;

/// The vocabulary of the output against those of the models.
pub(super) struct Table<'a> {
    pub speakers: &'a [Speaker<'a>],
    /// Of each speaker.
    pub tokens: &'a [Rc<Tokens>],
    pub base: Option<usize>,
    /// Of the output.
    pub union: &'a Tokens,
    /// Whether rows behind the last token stay as they are.
    pub keep_unnamed: bool,
}

impl Table<'_> {
    /// The first `size` rows, for each speaker; `None` where nothing moves.
    pub fn fill(
        &self,
        rules: &[(String, TokenRule)],
        size: usize,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Option<Arc<Vec<VocabularyRow>>>>> {
        let mut rows = vec![Vec::with_capacity(size); self.speakers.len()];
        let mut unheard = Vec::new();
        let rules: HashMap<&str, &TokenRule> =
            rules.iter().map(|(token, rule)| (&**token, rule)).collect();
        let usual = TokenRule::default();
        for id in 0..size {
            let Some(token) = self.union.at(id) else {
                for (speaker, rows) in rows.iter_mut().enumerate() {
                    rows.push(self.unnamed(speaker, id));
                }
                continue;
            };
            let own: Vec<Option<usize>> =
                self.tokens.iter().map(|tokens| tokens.id(token)).collect();
            let TokenRule { source, force } = rules.get(token).copied().unwrap_or(&usual);
            let substitute = match source {
                Some(source) => self.named(token, source)?,
                None => self.usual(&own),
            };
            if source.is_none() && substitute == VocabularyRow::Zero {
                unheard.push(token);
            }
            for (speaker, rows) in rows.iter_mut().enumerate() {
                rows.push(match (own[speaker], &substitute) {
                    (Some(row), _) if !force => VocabularyRow::Own(row),
                    (_, VocabularyRow::Other(model, row)) if *model == speaker => {
                        VocabularyRow::Own(*row)
                    }
                    (_, substitute) => substitute.clone(),
                });
            }
        }
        if !unheard.is_empty() {
            notes.push(format!(
                "no model has a row for {}: zeros; name a source under `tokenizer.tokens`",
                listed(&unheard)
            ));
        }
        self.note_losses(notes);
        let moved = rows.into_iter().zip(self.speakers).map(|(rows, speaker)| {
            let mut places = rows.iter().enumerate();
            let still =
                size == speaker.rows && places.all(|(at, row)| *row == VocabularyRow::Own(at));
            (!still).then(|| Arc::new(rows))
        });
        Ok(moved.collect())
    }

    /// The row of models that lack a token, given its row in each.
    fn usual(&self, own: &[Option<usize>]) -> VocabularyRow {
        let has = own.iter().enumerate();
        let has = has.filter_map(|(model, row)| Some((model, (*row)?)));
        let has: Vec<(usize, usize)> = has.collect();
        let base = self.base.and_then(|base| Some((base, own[base]?)));
        match (has.as_slice(), base) {
            ([], _) => VocabularyRow::Zero,
            (&[(model, row)], _) | (_, Some((model, row))) => VocabularyRow::Other(model, row),
            _ => VocabularyRow::Mean(has),
        }
    }

    /// The row that a recipe names.
    fn named(&self, token: &str, source: &TokenRowSource) -> Result<VocabularyRow> {
        let (model, of, id) = match source {
            TokenRowSource::Zero => return Ok(VocabularyRow::Zero),
            TokenRowSource::Model(model) => (model, Some(token), None),
            TokenRowSource::Token { model, token, id } => (model, token.as_deref(), *id),
        };
        let wrong = |problem: String| {
            let token = token.escape_debug();
            refused(model, format!("the rule for the token `{token}` {problem}"))
        };
        let at = self
            .speakers
            .iter()
            .position(|speaker| speaker.label == model);
        let at =
            at.ok_or_else(|| wrong("takes a row of it, and it is no model of this merge".into()))?;
        let row = match (of, id) {
            (Some(of), None) => self.tokens[at].id(of).ok_or_else(|| {
                wrong(format!(
                    "takes the row of `{}`, which it lacks",
                    of.escape_debug()
                ))
            })?,
            (None, Some(id)) if id < self.speakers[at].rows => id,
            (None, Some(id)) => {
                let rows = self.speakers[at].rows;
                return Err(wrong(format!("takes row {id}, and it has {rows} rows")));
            }
            _ => {
                return Err(wrong(
                    "needs either a token or a token_id as its source".into(),
                ));
            }
        };
        Ok(VocabularyRow::Other(at, row))
    }

    /// A row that is no token's: the model's own, unless it is a token's there.
    fn unnamed(&self, speaker: usize, id: usize) -> VocabularyRow {
        let kept = self.keep_unnamed || id < self.union.end();
        let there = id < self.speakers[speaker].rows && self.tokens[speaker].at(id).is_none();
        if kept && there {
            VocabularyRow::Own(id)
        } else {
            VocabularyRow::Padding
        }
    }

    /// Tokens that the output does not have.
    fn note_losses(&self, notes: &mut Vec<String>) {
        for (speaker, tokens) in self.speakers.iter().zip(self.tokens) {
            let lost = tokens.besides(self.union);
            if !lost.is_empty() {
                let (model, lost, count) = (speaker.label, listed(&lost), counted(lost.len()));
                notes.push(format!(
                    "the output leaves out {count} of model `{model}`: {lost}; `tokenizer_source: union` keeps them"
                ));
            }
        }
    }
}
