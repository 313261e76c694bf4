//! Scores of a record whose prompts stand behind a context.
//!
//! The long text in front is read once for all rows that share it. Locality compares the tokens
//! at the end that both rows have in common (`spec/editors.md` 2.4): counted from the front, a
//! position would be compared with one of the context.

use std::ops::Range;
use std::slice;

use burn::tensor::Tensor;
use debias_core::{ContextScore, LocalityScore, RecordScores};
use debias_model::{
    Error as ModelError, ImageFeatures, ImageRef, Parameters, Row, answer_scores, locality_of_pairs,
};

use super::Context;
use super::fit::Asking;
use crate::editor::{Comparison, Posed};
use crate::error::{Error, Result};
use crate::judge::Asked;

impl Context {
    /// Scores one record with the text in place.
    ///
    /// # Errors
    /// A record whose prompts do not fit even behind the bare fact, or logits that are not finite.
    pub(crate) fn scores(&self, asked: &Asked) -> Result<RecordScores> {
        if self.is_identity() {
            return Ok(asked.before());
        }
        let (model, base) = (asked.model(), asked.model().base());
        let example = asked.example();
        let record = &example.request.record;
        let asking = Asking {
            context: self,
            model,
            record: &record.id,
        };
        let mut pictures: Vec<ImageFeatures> = Vec::new();
        // Own and rephrased pictures once each, then the locality item's.
        let mut placed = |image: Option<&ImageFeatures>, again: bool| {
            let image = image?;
            if !again {
                pictures.push(image.clone());
            }
            Some(ImageRef {
                index: pictures.len() - 1,
                ..image.image_ref(0)
            })
        };
        let (mut rows, mut names): (Vec<Row>, _) = (Vec::new(), Vec::new());
        for Comparison {
            name,
            prompt,
            image,
        } in example.contexts()
        {
            let picture = placed(image, name == "rephrase");
            let answers = [record.y_more.as_str(), record.y_less.as_str()];
            rows.extend(asking.pair(name, (picture, prompt), answers)?);
            names.push(name);
        }
        let mut wanted: Vec<Range<usize>> = rows.iter().map(Row::answer_positions).collect();
        let item = |name, picture, posed: &Posed, base| {
            let row = asking.item(name, (picture, &posed.prompt), &posed.answer)?;
            Item::new(row, base, &record.id)
        };
        let (m, t) = (&example.m_locality, &example.t_locality);
        let m = m.as_ref().zip(asked.m_locality());
        let m = m.map(|(posed, base)| {
            item(
                "m_locality",
                placed(posed.image.as_ref(), false),
                posed,
                base,
            )
        });
        let m = m.transpose()?;
        let t = t.as_ref().zip(asked.t_locality());
        let t = t.map(|(posed, base)| item("t_locality", None, posed, base));
        let t = t.transpose()?;

        let contexts_end = rows.len();
        if let Some(m) = &m {
            rows.push(m.row.clone());
            wanted.push(m.wanted());
        }
        let seen = ImageFeatures::join(pictures);
        let mut logits = model.logits_at(&rows, seen.as_ref(), &wanted, &base);
        let m_edited = logits.split_off(contexts_end);
        let m = m.map(|m| m.score(m_edited)).transpose()?;
        let t = t.map(|t| {
            let row = slice::from_ref(&t.row);
            t.score(model.logits_at(row, None, &[t.wanted()], &base))
        });
        let scores = contexts(&rows[..contexts_end], &logits)?;
        let of = |name| {
            names
                .iter()
                .position(|known| *known == name)
                .map(|at| scores[at])
        };
        Ok(RecordScores {
            prompt: of("prompt").ok_or(Error::EmptyEdit)?,
            rephrase: of("rephrase"),
            image_rephrase: of("image_rephrase"),
            t_locality: t.transpose()?,
            m_locality: m,
        })
    }
}

/// Scores pairs of rows, `y_more` first, from the logits of their answer positions.
fn contexts(rows: &[Row], logits: &[Tensor<2>]) -> Result<Vec<ContextScore>> {
    let mut scores = Vec::with_capacity(logits.len());
    for (row, logits) in rows.iter().zip(logits) {
        scores.extend(answer_scores(
            slice::from_ref(row),
            logits.clone().unsqueeze(),
        )?);
    }
    let pairs = scores.chunks_exact(2);
    Ok(pairs
        .map(|pair| ContextScore {
            y_more: pair[0],
            y_less: pair[1],
        })
        .collect())
}

/// A locality item behind the context, and as the never-edited model reads it.
struct Item {
    row: Row,
    base: Row,
    /// `[1, t, vocabulary]`.
    logits: Tensor<3>,
    /// Tokens at the end that both rows have in common.
    common: usize,
}

impl Item {
    /// # Errors
    /// Rows that have no token in common at their end.
    fn new(row: Row, (base, logits): (Row, Tensor<3>), record: &str) -> Result<Self> {
        match common_end(&row, &base) {
            0 => Err(Error::Record {
                id: record.to_owned(),
                source: ModelError::Prompt {
                    prompt: "of its locality item".into(),
                    problem: "has no token at its end that is the same behind the context; \
                              end its answer with a word of its own"
                        .into(),
                },
            }),
            common => Ok(Self {
                row,
                base,
                logits,
                common,
            }),
        }
    }

    /// The positions that are compared, in the row behind the context.
    fn wanted(&self) -> Range<usize> {
        let end = self.row.ids.len();
        end - self.common..end
    }

    /// Compares the base model's logits with `edited`, the one tensor `[common, vocabulary]`.
    fn score(&self, edited: Vec<Tensor<2>>) -> Result<LocalityScore> {
        let first = self.base.ids.len() - self.common;
        let base = self.logits.clone().narrow(1, first, self.common);
        let Range { start, end } = self.base.answer_positions();
        let answers = start.saturating_sub(first)..end.saturating_sub(first);
        let edited = Tensor::cat(edited, 0);
        let ids = self.base.answer();
        let ids = &ids[ids.len() - answers.len()..];
        let base = base.squeeze_dim(0);
        Ok(locality_of_pairs(base, edited, answers, ids)?)
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

    #[test]
    fn answers_are_counted_within_what_is_compared() {
        let base = Row {
            answer_start: 3,
            ..row(&[1, 2, 3, 4, 5], None)
        };
        let logits = |n: usize| {
            let values = (0..n * 4).map(|i| i as f32).collect();
            debias_model::host::tensor(values, [1, n, 4], &burn::tensor::Device::flex())
        };
        // Only 4, 5 are the same, the first answer token's predictor is not.
        let edited = row(&[9, 9, 9, 9, 4, 5], None);
        let item = Item::new(edited, (base, logits(5)), "r").expect("a common end");
        assert_eq!(item.wanted(), 4..6);
        let same = logits(5).narrow(1, 3, 2).squeeze_dim::<2>(0);
        let score = item.score(vec![same]).expect("finite");
        assert_eq!((score.positions, score.answer_positions), (2, 1));
        assert_eq!((score.top1_kept, score.kl), (2, 0.0));
    }
}
