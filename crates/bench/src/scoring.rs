//! Scores of prompts and answers, batched: every picture is seen once, every shared beginning is
//! read once, rows of like length stand together.

use std::path::PathBuf;

use anyhow::Context;
use debias_model::score::batches;
use debias_model::{
    AnswerLikelihood, ImageFeatures, ImageRef, Model, Question, Row, Style, View, Workers, in_order,
};
use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::failure::Refusal;
use crate::fitting::{Portion, retry_in_halves};
use crate::gallery::Gallery;
use crate::lines::{Id, image};
use crate::printer::Printer;

/// Tokens per batch unless somebody asks for another number.
const TOKENS: usize = 2048;

/// The same on a card.
const TOKENS_ON_CARD: usize = 4096;

/// Positions whose logits are held at once, at most.
const POSITIONS: usize = 256;

/// One line of input.
#[derive(Clone, Debug, Deserialize)]
pub struct Item {
    /// Comes back with the score.
    pub id: Id,
    /// The prompt.
    pub prompt: String,
    /// The answer.
    pub answer: String,
    /// A picture, relative to the images' folder.
    #[serde(default, deserialize_with = "image")]
    pub image: Option<String>,
    /// Between prompt and answer.
    #[serde(default = "space")]
    pub join: String,
}

fn space() -> String {
    " ".to_owned()
}

/// One line of output.
#[derive(Clone, Debug, Serialize)]
pub struct Score {
    /// Of the item.
    pub id: Id,
    /// Log-likelihood of the answer.
    pub sum: f64,
    /// Log-likelihood per token.
    pub mean: f64,
    /// Number of the answer's tokens.
    pub tokens: usize,
    /// Log-likelihood of each.
    pub token_logprobs: Vec<f64>,
}

/// A model and how it is asked.
pub struct Scorer {
    /// The model.
    pub model: Model,
    /// What it is seen through.
    pub view: View,
    /// The folder of the pictures.
    pub images: PathBuf,
    /// Whether nothing is put around a prompt.
    pub raw: bool,
    /// Tokens per batch, if somebody asks for a number.
    pub tokens: Option<usize>,
    /// Pictures seen at once, if somebody asks for a number.
    pub pictures: Option<usize>,
    /// Told when a batch does not fit into the device's memory.
    pub printer: Printer,
}

impl Scorer {
    /// The score of each item, in order.
    ///
    /// # Errors
    /// A picture that cannot be read, a prompt that cannot be tokenised, or a model whose logits
    /// are not finite.
    pub fn score(&self, items: &[Item]) -> anyhow::Result<Vec<Score>> {
        let mut found: Vec<Option<AnswerLikelihood>> = vec![None; items.len()];
        let images = items.iter().map(|item| item.image.as_deref());
        self.gallery().each(images, |members, seen| {
            let rows = members
                .iter()
                .map(|(item, picture)| self.row(&items[*item], *picture));
            let rows: Vec<Row> = rows.collect::<anyhow::Result<_>>()?;
            let portion = self.portion(&rows)?;
            let batches = batches(&rows, portion.size);
            let scored = self.likelihoods(&rows, &batches, seen, portion.workers)?;
            for (row, score) in batches.iter().flatten().zip(scored.into_iter().flatten()) {
                found[members[*row].0] = Some(score);
            }
            Ok(())
        })?;
        items
            .iter()
            .zip(found)
            .map(|(item, score)| {
                let score = score.context("a row was left out of its batch")?;
                Ok(Score {
                    id: item.id.clone(),
                    sum: score.sum(),
                    mean: score.mean(),
                    tokens: score.tokens.len(),
                    token_logprobs: score.tokens,
                })
            })
            .collect()
    }

    fn gallery(&self) -> Gallery<'_> {
        Gallery {
            model: &self.model,
            view: &self.view,
            folder: &self.images,
            at_once: self.pictures,
            printer: self.printer,
        }
    }

    /// Tokens of a batch of `rows`, and batches computed beside each other: what was asked for or is
    /// usual, or what fits into the memory that may be taken.
    fn portion(&self, rows: &[Row]) -> anyhow::Result<Portion> {
        let placement = self.model.placement();
        let usual = match placement.uses_card() {
            true => TOKENS_ON_CARD,
            false => TOKENS,
        };
        let asked = Portion {
            size: self.tokens.unwrap_or(usual),
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
        rows: &[Row],
        batches: &[Vec<usize>],
        seen: Option<&ImageFeatures>,
        workers: Workers,
    ) -> anyhow::Result<Vec<Vec<AnswerLikelihood>>> {
        let score = |at: usize| -> anyhow::Result<_> {
            let scored = retry_in_halves(&batches[at], &|n| self.too_many(n), &|batch| {
                let part: Vec<Row> = batch.iter().map(|row| rows[*row].clone()).collect();
                Ok(self.model.score(&part, seen, &self.view)?)
            })?;
            Ok(scored.concat())
        };
        match batches.len() >= workers.count() {
            true => in_order(batches.len(), workers, score),
            false => (0..batches.len()).map(score).collect(),
        }
    }

    fn too_many(&self, n: usize) {
        self.printer.warn(&format!(
            "the device is out of memory; trying {n} lines at a time; a lower --batch-tokens avoids this"
        ));
    }

    fn row(&self, item: &Item, picture: Option<ImageRef>) -> anyhow::Result<Row> {
        let question = Question {
            picture,
            prompt: &item.prompt,
            answer: Some(&item.answer),
            join: &item.join,
            style: style(self.raw),
        };
        let rows = self.model.rows(&[question]);
        let mut rows = rows.map_err(|error| in_item(&item.id, &error))?;
        rows.pop().context("a question without a row")
    }
}

/// What is put around a prompt.
pub fn style(raw: bool) -> Style {
    match raw {
        true => Style::Raw,
        false => Style::Chat,
    }
}

/// What stops one item, in one line.
pub fn in_item(id: &Id, error: &debias_model::Error) -> Refusal {
    let id = id.to_string();
    Refusal::new(
        Exit::Refused,
        format!("item `{}`: {error}", id.escape_debug()),
    )
}
