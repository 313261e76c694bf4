//! Greedy continuations of prompts, batched by picture.

use std::path::PathBuf;

use anyhow::Context;
use debias_model::{Limits, Model, Question, Row, View};
use serde::Deserialize;

use crate::fitting::retry_in_halves;
use crate::gallery::Gallery;
use crate::lines::{Id, image};
use crate::printer::Printer;
use crate::scoring::{in_item, style};

/// Rows continued together.
const ROWS: usize = 16;

/// One line of input.
#[derive(Clone, Debug, Deserialize)]
pub struct Prompt {
    /// Comes back with the continuation.
    pub id: Id,
    /// The prompt.
    pub prompt: String,
    /// A picture, relative to the images' folder.
    #[serde(default, deserialize_with = "image")]
    pub image: Option<String>,
}

/// A model and how it is to go on.
pub struct Continuer {
    /// The model.
    pub model: Model,
    /// What it is seen through.
    pub view: View,
    /// The folder of the pictures.
    pub images: PathBuf,
    /// Whether nothing is put around a prompt.
    pub raw: bool,
    /// Most tokens added.
    pub max_tokens: usize,
    /// Texts that end a continuation.
    pub stops: Vec<String>,
    /// Tokens that end it.
    pub ends: Vec<u32>,
    /// Told when a batch does not fit into the device's memory.
    pub printer: Printer,
}

impl Continuer {
    /// The text and the tokens added to each prompt, in order; the end token and what follows a
    /// stop text are in neither.
    ///
    /// # Errors
    /// A picture that cannot be read, a prompt that cannot be tokenised or is too long, or a model
    /// whose logits are not finite.
    pub fn run(&self, prompts: &[Prompt]) -> anyhow::Result<Vec<(String, Vec<u32>)>> {
        let mut found = vec![(String::new(), Vec::new()); prompts.len()];
        let images = prompts.iter().map(|prompt| prompt.image.as_deref());
        let gallery = Gallery {
            model: &self.model,
            view: &self.view,
            folder: &self.images,
            at_once: None,
            printer: self.printer,
        };
        let limits = Limits {
            max_tokens: self.max_tokens,
            stops: self.ends.clone(),
        };
        gallery.each(images, |members, seen| {
            for members in members.chunks(ROWS) {
                let rows = members
                    .iter()
                    .map(|(prompt, picture)| self.row(&prompts[*prompt], *picture));
                let rows: Vec<Row> = rows.collect::<anyhow::Result<_>>()?;
                let added = retry_in_halves(&rows, &|n| self.too_many(n), &|rows| {
                    Ok(self.model.generate(rows, seen, &limits, &self.view)?)
                })?;
                for ((prompt, _), ids) in members.iter().zip(added.concat()) {
                    found[*prompt] = self.finish(ids)?;
                }
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn too_many(&self, n: usize) {
        self.printer.warn(&format!(
            "the device is out of memory; trying {n} prompts at a time"
        ));
    }

    fn row(&self, prompt: &Prompt, picture: Option<debias_model::ImageRef>) -> anyhow::Result<Row> {
        let question = Question {
            picture,
            prompt: &prompt.prompt,
            answer: None,
            join: "",
            style: style(self.raw),
        };
        let rows = self.model.rows(&[question]);
        let mut rows = rows.map_err(|error| in_item(&prompt.id, &error))?;
        rows.pop().context("a prompt without a row")
    }

    /// Cuts off the end token and whatever stands behind a stop text.
    fn finish(&self, mut ids: Vec<u32>) -> anyhow::Result<(String, Vec<u32>)> {
        if ids.last().is_some_and(|last| self.ends.contains(last)) {
            ids.pop();
        }
        let mut text = self.model.text().decode(&ids, true)?;
        let stops = self.stops.iter();
        if let Some(at) = stops.filter_map(|stop| text.find(stop.as_str())).min() {
            text.truncate(at);
        }
        Ok((text, ids))
    }
}
