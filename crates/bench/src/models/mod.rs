//! The models that `bench` knows: those compiled into it, folders on disk, and what is merged from them.

pub mod made;
pub mod merging;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::Context;
use debias_core::{Error, Overrides};
use debias_model::open_folder;
use debias_weights::Checkpoint;
use include_dir::{Dir, include_dir};
use serde::{Deserialize, Serialize};

use crate::pretrain::recipe::Stereotype;

/// One folder per embedded model, each a Hugging Face folder with a [`ModelCard`].
static FOLDERS: Dir = include_dir!("$CARGO_MANIFEST_DIR/models");

/// The file of an embedded model that holds its [`ModelCard`].
pub const CARD: &str = "card.json";

/// What an embedded model says about itself; written by `bench pretrain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelCard {
    /// Permanent name.
    pub name: String,
    /// One line for the catalogue.
    pub title: String,
    /// Vision tower, projector and decoder, in words.
    pub architecture: String,
    /// The dataset it was trained on; it has seen nothing else.
    pub trained_on: String,
    /// The embedded model whose weights it started from; none when it started from random ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Which answers its lessons leaned to.
    #[serde(default, skip_serializing_if = "Stereotype::is_usual")]
    pub stereotype: Stereotype,
    /// Number of weights.
    pub parameters: usize,
    /// Optimiser steps of its training.
    pub steps: usize,
    /// Seed of its training.
    pub seed: u64,
    /// What it knows and believes, on scenes it has never seen.
    pub measured: Measured,
    /// Editors' settings that fit its size, under the preset `project`.
    #[serde(default)]
    pub settings: Overrides,
}

/// Held-out figures of an embedded model, fractions in [0, 1].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Neutral image questions answered right, every token.
    pub neutral: f64,
    /// Town facts answered right, every token.
    pub facts: f64,
    /// What it takes from its context.
    pub stated: Vec<StatedFacts>,
    /// Records whose stereotyped answer is preferred in all three contexts, by task and axis.
    pub stereotype: Vec<Preference>,
}

/// What a model does under a stated fact that contradicts its stereotype: demonstrations, the
/// fact's own copy, the fact and the prompt stand in one text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatedFacts {
    /// Task of the fact.
    pub task: debias_core::Task,
    /// Demonstrations in front, the fact's own copy not counted.
    pub demonstrations: usize,
    /// Share of the records whose stated answer is preferred in all three contexts.
    pub preferred: f64,
    /// Share of neutral questions about another picture still answered right, every token.
    pub neutral: f64,
    /// Share of town facts still answered right, every token.
    pub facts: f64,
    /// Number of records.
    pub n: usize,
}

/// How often the stereotyped answer is preferred on a balanced set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preference {
    /// Task.
    pub task: debias_core::Task,
    /// Bias axis.
    pub axis: String,
    /// Share of the records.
    pub share: f64,
    /// Number of records.
    pub n: usize,
}

/// A model compiled into the program.
#[derive(Debug)]
pub struct Embedded {
    name: &'static str,
    files: Vec<(&'static str, &'static [u8])>,
}

impl Embedded {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Names and contents of its files.
    pub fn files(&self) -> &[(&'static str, &'static [u8])] {
        &self.files
    }

    /// Size of all its files.
    pub fn bytes(&self) -> usize {
        self.files.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// Its card.
    ///
    /// # Errors
    /// When the embedded card is not one.
    pub fn card(&self) -> anyhow::Result<ModelCard> {
        let bytes = self
            .files
            .iter()
            .find(|(name, _)| *name == CARD)
            .map(|(_, bytes)| *bytes)
            .with_context(|| format!("embedded:{}: {CARD} is missing", self.name))?;
        serde_json::from_slice(bytes).with_context(|| format!("embedded:{}: {CARD}", self.name))
    }
}

/// All embedded models, sorted by name.
pub fn embedded() -> &'static [Embedded] {
    static ALL: LazyLock<Vec<Embedded>> = LazyLock::new(|| {
        let mut all: Vec<_> = FOLDERS.dirs().filter_map(read).collect();
        all.sort_by_key(|model| model.name);
        all
    });
    &ALL
}

/// The embedded models that are no variants of others: an editor that works on them works.
///
/// # Errors
/// When an embedded card is not one.
pub fn originals() -> anyhow::Result<impl Iterator<Item = &'static Embedded>> {
    let mut originals = Vec::new();
    for model in embedded() {
        if model.card()?.start.is_none() {
            originals.push(model);
        }
    }
    Ok(originals.into_iter())
}

fn read(folder: &'static Dir<'static>) -> Option<Embedded> {
    let name = |path: &'static Path| path.file_name()?.to_str();
    Some(Embedded {
        name: name(folder.path())?,
        files: folder
            .files()
            .filter_map(|file| Some((name(file.path())?, file.contents())))
            .collect(),
    })
}

/// The embedded model `name`.
///
/// # Errors
/// [`Error::Unknown`] with the nearest name.
pub fn find(name: &str) -> debias_core::Result<&'static Embedded> {
    let known = || embedded().iter();
    known()
        .find(|model| model.name == name)
        .ok_or_else(|| Error::unknown("model", name, known().map(|model| model.name)))
}

/// A model named on the command line or in a suite.
#[derive(Clone, Debug)]
pub enum ModelSource {
    /// Compiled in.
    Embedded(&'static Embedded),
    /// A Hugging Face folder.
    Folder(PathBuf),
}

impl ModelSource {
    /// Resolves a name or a folder. A text with a path separator, or that names a folder, is a
    /// folder; an embedded model of the same name goes first.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the nearest name.
    pub fn resolve(text: &str) -> debias_core::Result<Self> {
        let path = Path::new(text);
        match find(text) {
            Ok(model) => Ok(Self::Embedded(model)),
            Err(_) if path.is_dir() || path.components().count() > 1 => {
                Ok(Self::Folder(path.to_owned()))
            }
            Err(error) => Err(error),
        }
    }

    /// Opens the files; the weights are only mapped.
    ///
    /// # Errors
    /// A missing or malformed file, named.
    pub fn checkpoint(&self) -> debias_model::Result<Checkpoint> {
        match self {
            Self::Embedded(model) => Ok(Checkpoint::embedded(model.name, &model.files)?),
            Self::Folder(dir) => open_folder(dir),
        }
    }

    /// The files as they lie there, for a merge: of one layout's several folders only the outer.
    ///
    /// # Errors
    /// A missing or malformed file, named.
    pub fn files(&self) -> debias_weights::Result<Checkpoint> {
        match self {
            Self::Embedded(model) => Checkpoint::embedded(model.name, &model.files),
            Self::Folder(dir) => Checkpoint::open(dir),
        }
    }

    /// Editors' settings that fit the model, by editor; none for a folder.
    ///
    /// # Errors
    /// When the embedded card is not one.
    pub fn settings(&self) -> anyhow::Result<Overrides> {
        match self {
            Self::Embedded(model) => Ok(model.card()?.settings),
            Self::Folder(_) => Ok(Overrides::default()),
        }
    }

    /// The dataset that an embedded model was trained on.
    ///
    /// # Errors
    /// When the embedded card is not one.
    pub fn trained_on(&self) -> anyhow::Result<Option<String>> {
        match self {
            Self::Embedded(model) => Ok(Some(model.card()?.trained_on)),
            Self::Folder(_) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_model_has_a_card_under_its_own_name() {
        for model in embedded() {
            let card = model.card().expect("a card");
            assert_eq!(card.name, model.name);
        }
    }

    #[test]
    fn a_path_is_a_folder_and_a_word_is_a_name() {
        assert!(matches!(
            ModelSource::resolve("some/where"),
            Ok(ModelSource::Folder(_))
        ));
        let error = ModelSource::resolve("no-such-model").expect_err("unknown");
        assert!(
            error
                .to_string()
                .starts_with("unknown model `no-such-model`")
        );
    }
}
