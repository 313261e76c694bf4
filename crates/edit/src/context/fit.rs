//! A context that fits: demonstrations are left out from the front, farthest from the prompt,
//! until the model's positions suffice.

use debias_model::engine::Asked;
use debias_model::{Error as ModelError, ImageRef, Model};

use super::{Context, Manner};
use crate::error::Result;

impl Context {
    /// The question `asked`, whose picture is `picture`, behind as much of the context as leaves room
    /// for its answers, or for a continuation of `more` tokens.
    ///
    /// # Errors
    /// A question that does not fit even behind the bare fact, or cannot be tokenised.
    pub(super) fn in_front_of(
        &self,
        asked: &Asked,
        (model, picture): (&Model, Option<ImageRef>),
        more: usize,
    ) -> Result<Asked> {
        let said = self.said(&asked.prompt)?;
        let manner = self.manner.as_deref();
        let cap = manner.and_then(|manner| manner.cap).unwrap_or(usize::MAX);
        let shown = said.demonstrations.iter();
        let tokens: Vec<usize> = shown.map(|shown| shown.tokens).collect();
        let mut left_out = 0;
        loop {
            let behind = Asked {
                prompt: said.before(left_out, &asked.prompt),
                ..asked.clone()
            };
            let found = longest(&behind, model, picture, more);
            let excess = match &found {
                Ok((longest, cut)) => longest.saturating_sub(cap).max(*cut),
                Err(ModelError::TooLong { length, limit, .. }) => {
                    length.saturating_sub(cap.min(*limit))
                }
                Err(_) => 0,
            };
            if excess == 0 || left_out == tokens.len() {
                found?;
                if let Some(Manner { shortened, .. }) = manner {
                    shortened.note(&asked.name, left_out);
                }
                return Ok(behind);
            }
            left_out = enough(&tokens, left_out, excess);
        }
    }
}

/// Tokens of the longest row of `asked`, and the most that are cut off one.
fn longest(
    asked: &Asked,
    model: &Model,
    picture: Option<ImageRef>,
    more: usize,
) -> debias_model::Result<(usize, usize)> {
    if asked.choices.is_empty() {
        let row = asked.prompt_row(model, picture, more)?;
        return Ok((row.ids.len(), 0));
    }
    let rows = asked.rows(model, picture)?;
    let rows = rows.iter().flatten();
    let sizes = rows.map(|choice| (choice.row.ids.len(), choice.cut));
    Ok(sizes.fold((0, 0), |(n, cut), (m, more)| (n.max(m), cut.max(more))))
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
