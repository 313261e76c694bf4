//! A model whose prompts stand behind a context.
//!
//! What is compared with the model without the context are the tokens at the end that both rows have
//! in common (`spec/editors.md` 2.4): counted from the front, a position would be compared with one of
//! the context.

use std::any::Any;
use std::sync::Arc;

use debias_core::Decoding;
use debias_model::engine::{Asked, Reading, Wanted, Written};
use debias_model::{AnswerLikelihood, Error as ModelError, ImageFeatures, Model, Row, Steps};

use super::Context;
use crate::edit::{Touches, Wrap};
use crate::error::Result;
use crate::respondent::{Each, Respondent, passed_on};

/// `inner` behind a context.
pub struct InContext<'a> {
    context: &'a Context,
    inner: &'a dyn Respondent,
}

/// A question behind the context, and where its row is to be compared with the row without.
struct Behind {
    asked: (Asked, Wanted),
    /// The row without the context, and how many tokens at its end it has in common.
    base: Option<(Row, usize)>,
}

impl Wrap for Context {
    fn touches(&self) -> Touches {
        if self.is_identity() {
            Touches::Nothing
        } else {
            Touches::Input
        }
    }

    /// Of text; demonstrations are counted wherever they stand, although edits share them.
    fn bytes(&self) -> usize {
        self.texts().iter().map(|text| text.len()).sum()
    }

    fn texts(&self) -> Vec<&str> {
        let texts = self.facts.iter().flat_map(|fact| {
            let shown = fact.demonstrations.iter().map(|shown| shown.text.as_str());
            shown.chain([fact.fact.as_str()])
        });
        texts.collect()
    }

    fn over<'a>(&'a self, inner: &'a dyn Respondent) -> Box<dyn Respondent + 'a> {
        Box::new(InContext {
            context: self,
            inner,
        })
    }

    fn joined(&self, more: &dyn Wrap) -> Option<Arc<dyn Wrap>> {
        let more: &Self = (more as &dyn Any).downcast_ref()?;
        Some(Arc::new(self.clone().with(more)))
    }
}

impl InContext<'_> {
    fn behind(&self, asked: &Asked, more: usize) -> Result<Asked> {
        let seen = asked.image.as_deref().map(|key| self.inner.see(key));
        let picture = seen.transpose()?.map(|seen| seen.image_ref(0));
        self.context
            .in_front_of(asked, (self.model(), picture), more)
    }

    /// A question of which positions are wanted: those of the answers are found behind any context,
    /// others are counted from the end that the rows have in common.
    fn aligned(&self, (asked, wanted): &(Asked, Wanted)) -> Result<Behind> {
        let behind = self.behind(asked, 0)?;
        if *wanted == Wanted::Answers {
            return Ok(Behind {
                asked: (behind, Wanted::Answers),
                base: None,
            });
        }
        let seen = asked.image.as_deref().map(|key| self.inner.see(key));
        let picture = seen.transpose()?.map(|seen| seen.image_ref(0));
        let row = |asked: &Asked| -> Result<Row> {
            let rows = asked.rows(self.model(), picture)?;
            let row = rows.into_iter().flatten().next();
            row.map(|choice| choice.row).ok_or_else(|| apart().into())
        };
        let (base, edited) = (row(asked)?, row(&behind)?);
        let common = common_end(&edited, &base).min(wanted.of(&base).len());
        if common == 0 {
            return Err(apart().into());
        }
        Ok(Behind {
            asked: (behind, Wanted::Last(common)),
            base: Some((base, common)),
        })
    }
}

fn apart() -> ModelError {
    ModelError::Prompt {
        prompt: "of its locality item".into(),
        problem: "has no token at its end that is the same behind the context; \
                  end its answer with a word of its own"
            .into(),
    }
}

impl Respondent for InContext<'_> {
    fn model(&self) -> &Model {
        self.inner.model()
    }

    fn see(&self, key: &str) -> Result<ImageFeatures> {
        self.inner.see(key)
    }

    fn choices(&self, asked: &[Asked]) -> Each<Vec<Option<AnswerLikelihood>>> {
        passed_on(
            asked,
            |asked| self.behind(asked, 0),
            |behind| self.inner.choices(&behind),
        )
    }

    fn logits(&self, asked: &[(Asked, Wanted)]) -> Each<Vec<Reading>> {
        if self.context.is_identity() {
            return self.inner.logits(asked);
        }
        passed_on(
            asked,
            |asked| self.aligned(asked),
            |behind| {
                let (asked, bases): (Vec<_>, Vec<_>) = behind
                    .into_iter()
                    .map(|behind| (behind.asked, behind.base))
                    .unzip();
                let found = self.inner.logits(&asked)?.into_iter().zip(bases);
                let put = |(readings, base): (Result<Vec<Reading>>, Option<(Row, usize)>)| {
                    let mut readings = readings?;
                    for reading in &mut readings {
                        reading.edited = true;
                        if let Some((row, common)) = &base {
                            reading.row = row.clone();
                            reading.positions = row.ids.len() - common..row.ids.len();
                        }
                    }
                    Ok(readings)
                };
                Ok(found.map(put).collect())
            },
        )
    }

    fn begin<'s>(&'s self, asked: &Asked, more: usize) -> Result<Box<dyn Steps + 's>> {
        self.inner.begin(&self.behind(asked, more)?, more)
    }

    fn write(&self, asked: &[Asked], how: &Decoding) -> Each<Vec<Written>> {
        passed_on(
            asked,
            |asked| self.behind(asked, how.max_tokens),
            |behind| self.inner.write(&behind, how),
        )
    }
}

/// How many of their last tokens two rows have in common, pictures left out.
fn common_end(a: &Row, b: &Row) -> usize {
    let text = |row: &Row| {
        let start = row.image.map_or(0, |span| span.at + span.len);
        row.ids[start..].to_vec()
    };
    let (a, b) = (text(a), text(b));
    let pairs = a.iter().rev().zip(b.iter().rev());
    pairs.take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use debias_model::ImageSpan;

    use super::*;

    fn row(ids: &[u32], image: Option<(usize, usize)>) -> Row {
        Row {
            ids: ids.to_vec(),
            image: image.map(|(at, len)| ImageSpan {
                picture: 0,
                at,
                len,
            }),
            answer_start: 1,
        }
    }

    #[test]
    fn rows_are_aligned_at_their_end_by_ids() {
        let common = |a: &[u32], b: &[u32]| common_end(&row(a, None), &row(b, None));
        assert_eq!(common(&[1, 2, 3], &[9, 9, 9, 2, 3]), 2);
        // An id that differs ends it, whatever stands in front.
        assert_eq!(common(&[5, 1, 2, 3], &[5, 9, 2, 3]), 2);
        assert_eq!(common(&[1, 2, 3], &[1, 2, 3]), 3);
        assert_eq!(common(&[1, 2], &[2, 1]), 0);
    }

    #[test]
    fn the_places_of_a_picture_are_no_tokens() {
        // The picture's places hold 0, which is a token's id as well.
        let base = row(&[0, 0, 7, 8], Some((0, 2)));
        let edited = row(&[0, 0, 3, 0, 7, 8], Some((0, 2)));
        assert_eq!(common_end(&base, &edited), 2);
    }
}
