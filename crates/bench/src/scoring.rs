//! Scores of prompts and answers, batched: every picture is seen once, every shared beginning is
//! read once, rows of like length stand together.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use debias_core::Picture;
use debias_data::read_picture;
use debias_model::score::batches;
use debias_model::{
    AnswerLikelihood, Mllm, Question, Row, Seen, Sighting, Style, View, Workers, in_order,
};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::failure::Refusal;
use crate::fitting::{Portion, halving};
use crate::lines::{Id, image};
use crate::printer::Printer;

/// Pictures whose features are held at once.
const PICTURES: usize = 8;

/// The same on a card, which is idle where little is asked of it at a time.
const PICTURES_ON_CARD: usize = 64;

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
    pub model: Mllm,
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
        let pictures = pictures_at_once(&self.model, self.pictures)?;
        for group in by_picture(images, pictures) {
            let start = Instant::now();
            let seen = see(
                &self.model,
                &self.images,
                &group.pictures,
                &self.view,
                self.printer,
            )?;
            let rows = group.members.iter().map(|(item, picture)| {
                let picture = picture.zip(seen.as_ref());
                let picture = picture.map(|(i, seen)| seen.sighting(i));
                self.row(&items[*item], picture)
            });
            let rows: Vec<Row> = rows.collect::<anyhow::Result<_>>()?;
            let portion = self.portion(&rows)?;
            let batches = batches(&rows, portion.size);
            for (batch, scores) in
                batches
                    .iter()
                    .zip(self.likelihoods(&rows, &batches, &seen, portion.workers)?)
            {
                for (row, score) in batch.iter().zip(scores) {
                    found[group.members[*row].0] = Some(score);
                }
            }
            self.printer.detail(&format!(
                "{} lines, {} pictures in {:.5} s",
                group.members.len(),
                group.pictures.len(),
                start.elapsed().as_secs_f64()
            ));
        }
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
        let fit = in_rows.within(room.saturating_sub(shapes.logits(POSITIONS)), each)?;
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
        seen: &Option<Seen>,
        workers: Workers,
    ) -> anyhow::Result<Vec<Vec<AnswerLikelihood>>> {
        let score = |at: usize| -> anyhow::Result<_> {
            let scored = halving(&batches[at], &|n| self.too_many(n), &|batch| {
                let part: Vec<Row> = batch.iter().map(|row| rows[*row].clone()).collect();
                Ok(self.model.score(&part, seen.as_ref(), &self.view)?)
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

    fn row(&self, item: &Item, picture: Option<Sighting>) -> anyhow::Result<Row> {
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

/// Items that are computed together: they share few pictures, or have none.
pub struct Group<'a> {
    /// Their pictures, without repetition.
    pub pictures: Vec<&'a str>,
    /// Index of each item, and of its picture in `pictures`.
    pub members: Vec<(usize, Option<usize>)>,
}

/// Groups items by picture, those without one in a group of their own.
/// A group has at most `most` pictures.
pub fn by_picture<'a>(
    images: impl Iterator<Item = Option<&'a str>>,
    most: usize,
) -> Vec<Group<'a>> {
    let mut text = Group {
        pictures: Vec::new(),
        members: Vec::new(),
    };
    let mut groups: Vec<Group> = Vec::new();
    for (item, image) in images.enumerate() {
        let Some(image) = image else {
            text.members.push((item, None));
            continue;
        };
        let known = groups.iter_mut().find_map(|group| {
            let picture = group.pictures.iter().position(|other| *other == image)?;
            Some((group, picture))
        });
        if let Some((group, picture)) = known {
            group.members.push((item, Some(picture)));
            continue;
        }
        match groups
            .last_mut()
            .filter(|group| group.pictures.len() < most)
        {
            Some(group) => {
                group.members.push((item, Some(group.pictures.len())));
                group.pictures.push(image);
            }
            None => groups.push(Group {
                pictures: vec![image],
                members: vec![(item, Some(0))],
            }),
        }
    }
    groups.extend((!text.members.is_empty()).then_some(text));
    groups
}

/// How many pictures `model` sees at once: what was asked for or is usual, or what fits into the memory
/// that may be taken.
///
/// # Errors
/// When there is not room for one.
pub fn pictures_at_once(model: &Mllm, asked: Option<usize>) -> anyhow::Result<usize> {
    let usual = match model.placement().uses_card() {
        true => PICTURES_ON_CARD,
        false => PICTURES,
    };
    let most = Portion {
        size: asked.unwrap_or(usual),
        workers: Workers::Caller,
    };
    match model.room() {
        Some(room) => Ok(most.within(room, model.footprint().pictures(1))?.size),
        None => Ok(most.size),
    }
}

/// Reads pictures and lets `model` see them; `None` when there are none.
///
/// # Errors
/// An unreadable picture, or a model without sight.
pub fn see(
    model: &Mllm,
    images: &Path,
    names: &[&str],
    view: &View,
    printer: Printer,
) -> anyhow::Result<Option<Seen>> {
    let pictures = names
        .par_iter()
        .map(|name| Ok(read_picture(&images.join(name))?));
    let pictures: Vec<Picture> = pictures.collect::<anyhow::Result<_>>()?;
    let pictures: Vec<&Picture> = pictures.iter().collect();
    if pictures.is_empty() {
        return Ok(None);
    }
    let too_many = |n| {
        printer.warn(&format!(
            "the device is out of memory; trying {n} pictures at a time"
        ));
    };
    let seen = halving(&pictures, &too_many, &|some| {
        let seen = model.see(some, view)?;
        // A device that has no room for this must say so here, not where the features are used.
        seen.settle();
        Ok(seen)
    })?;
    Ok(Seen::join(seen))
}
