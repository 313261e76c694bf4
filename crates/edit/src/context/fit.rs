//! A context that fits: demonstrations are left out from the front, farthest from the prompt,
//! until the model's positions suffice.

use debias_model::{Error as ModelError, ImageRef, Model, Question, Row};

use super::{Context, Manner};
use crate::error::{Error, Result};

/// One record to be asked behind a context.
pub(super) struct Asking<'a> {
    pub context: &'a Context,
    pub model: &'a Model,
    /// Id of the record.
    pub record: &'a str,
}

impl Asking<'_> {
    /// Both answers to `prompt`, behind the same text.
    pub fn pair(
        &self,
        asked: &'static str,
        (picture, prompt): (Option<ImageRef>, &str),
        answers: [&str; 2],
    ) -> Result<[Row; 2]> {
        self.fitting(asked, prompt, |text| {
            self.model.row_pair(picture, text, answers)
        })
    }

    /// One answer to `prompt`.
    pub fn item(
        &self,
        asked: &'static str,
        (picture, prompt): (Option<ImageRef>, &str),
        answer: &str,
    ) -> Result<Row> {
        let [row] = self.fitting(asked, prompt, |text| {
            let question = Question::new(picture, text, answer);
            let rows = self.model.rows(&[question])?;
            Ok(<[Row; 1]>::try_from(rows).expect("one question gives one row"))
        })?;
        Ok(row)
    }

    /// Rows of `prompt` behind as much of the context as fits.
    fn fitting<const N: usize>(
        &self,
        asked: &'static str,
        prompt: &str,
        rows: impl Fn(&str) -> debias_model::Result<[Row; N]>,
    ) -> Result<[Row; N]> {
        let said = self.context.said(prompt)?;
        let manner = self.context.manner.as_deref();
        let cap = manner.and_then(|manner| manner.cap).unwrap_or(usize::MAX);
        let tokens: Vec<usize> = said
            .demonstrations
            .iter()
            .map(|shown| shown.tokens)
            .collect();
        let mut left_out = 0;
        let rows = loop {
            let found = rows(&said.before(left_out, prompt));
            let excess = match &found {
                Ok(rows) => longest(rows).saturating_sub(cap),
                Err(ModelError::TooLong { length, limit, .. }) => {
                    length.saturating_sub(cap.min(*limit))
                }
                Err(_) => 0,
            };
            if excess == 0 || left_out == tokens.len() {
                break found;
            }
            left_out = enough(&tokens, left_out, excess);
        };
        let rows = rows.map_err(|source| Error::Record {
            id: self.record.to_owned(),
            source,
        })?;
        if let Some(Manner { shortened, .. }) = manner {
            shortened.note(self.record, asked, left_out);
        }
        Ok(rows)
    }
}

fn longest(rows: &[Row]) -> usize {
    rows.iter().map(|row| row.ids.len()).max().unwrap_or(0)
}

/// How many pieces must go in all, so that those behind the first `gone` spare `excess` tokens;
/// one more at least.
fn enough(tokens: &[usize], gone: usize, excess: usize) -> usize {
    let mut spared = 0;
    let more = tokens[gone..].iter().take_while(|tokens| {
        let wanted = spared < excess;
        spared += **tokens;
        wanted
    });
    gone + more.count()
}
