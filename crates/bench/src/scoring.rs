//! Scores of prompts and answers, batched: every picture is seen once, every shared beginning is
//! read once, rows of like length stand together.

use std::path::{Path, PathBuf};

use anyhow::Context;
use debias_core::Picture;
use debias_data::read_picture;
use debias_model::score::batches;
use debias_model::{AnswerLikelihood, Mllm, Question, Row, Seen, Sighting, Style, View, in_order};
use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::failure::Refusal;
use crate::fitting::halving;
use crate::lines::{Id, image};
use crate::printer::Printer;

/// Pictures whose features are held at once.
const PICTURES: usize = 8;

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
    /// Tokens per batch.
    pub budget: usize,
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
        for group in by_picture(items.iter().map(|item| item.image.as_deref())) {
            let seen = see(&self.model, &self.images, &group.pictures, &self.view)?;
            let rows = group.members.iter().map(|(item, picture)| {
                let picture = picture.zip(seen.as_ref());
                let picture = picture.map(|(i, seen)| seen.sighting(i));
                self.row(&items[*item], picture)
            });
            let rows: Vec<Row> = rows.collect::<anyhow::Result<_>>()?;
            let batches = batches(&rows, self.budget);
            for (batch, scores) in batches
                .iter()
                .zip(self.likelihoods(&rows, &batches, &seen)?)
            {
                for (row, score) in batch.iter().zip(scores) {
                    found[group.members[*row].0] = Some(score);
                }
            }
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

    /// Scores batch by batch: a thread for each where there are enough of them, because a pass is
    /// not parallel in all its parts; else all threads for one after the other.
    fn likelihoods(
        &self,
        rows: &[Row],
        batches: &[Vec<usize>],
        seen: &Option<Seen>,
    ) -> anyhow::Result<Vec<Vec<AnswerLikelihood>>> {
        let score = |at: usize| -> anyhow::Result<_> {
            let scored = halving(&batches[at], &|n| self.too_many(n), &|batch| {
                let part: Vec<Row> = batch.iter().map(|row| rows[*row].clone()).collect();
                Ok(self.model.score(&part, seen.as_ref(), &self.view)?)
            })?;
            Ok(scored.concat())
        };
        let threads = rayon::current_num_threads();
        match batches.len() >= threads {
            true => in_order(batches.len(), threads, score),
            false => (0..batches.len()).map(score).collect(),
        }
    }

    fn too_many(&self, n: usize) {
        self.printer.warn(&format!(
            "the device is out of memory; trying {n} lines at a time; --batch-tokens below {} avoids this",
            self.budget
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
pub fn by_picture<'a>(images: impl Iterator<Item = Option<&'a str>>) -> Vec<Group<'a>> {
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
            .filter(|group| group.pictures.len() < PICTURES)
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

/// Reads pictures and lets `model` see them; `None` when there are none.
///
/// # Errors
/// An unreadable picture, or a model without sight.
pub fn see(
    model: &Mllm,
    images: &Path,
    names: &[&str],
    view: &View,
) -> anyhow::Result<Option<Seen>> {
    if names.is_empty() {
        return Ok(None);
    }
    let pictures = names.iter().map(|name| {
        let path = images.join(name);
        Ok(read_picture(&path)?)
    });
    let pictures: Vec<Picture> = pictures.collect::<anyhow::Result<_>>()?;
    let pictures: Vec<&Picture> = pictures.iter().collect();
    Ok(Some(model.see(&pictures, view)?))
}
