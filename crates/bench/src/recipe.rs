//! How the embedded models are made: `configs/models/<name>.toml`.

use debias_core::{Error, Overrides};
use debias_model::pretrain::Schedule;
use include_dir::{Dir, include_dir};
use serde::Deserialize;
use serde_json::Value;

static FILES: Dir = include_dir!("$CARGO_MANIFEST_DIR/../../configs/models");

/// A training recipe.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The model's permanent name.
    pub name: String,
    /// One line for the catalogue.
    pub title: String,
    /// Vision tower, bridge and decoder, in words.
    pub architecture: String,
    /// The dataset it learns from.
    pub trained_on: String,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// How long and how fast.
    pub schedule: Pace,
    /// Editors' settings that fit its size, for its card.
    #[serde(default)]
    pub settings: Overrides,
    /// `config.json`, but for what the tokenizer decides.
    pub config: Value,
    /// `preprocessor_config.json`.
    pub preprocessor: Value,
}

/// A tokenizer made from the dataset's texts.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokenizer {
    /// How blanks are written.
    pub kind: TokenizerKind,
    /// Most tokens.
    pub vocabulary: usize,
}

/// The two families of byte-pair tokenizers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenizerKind {
    /// Of GPT-2 and OPT: bytes, a blank belongs to the word behind it.
    ByteLevel,
    /// Of LLaMA: pieces, a blank is a letter of its own.
    Metaspace,
}

/// The numbers of a [`Schedule`].
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pace {
    /// Optimiser steps.
    pub steps: usize,
    /// Pieces per step; fixed, so that threads do not change the sums.
    pub pieces: usize,
    /// Pictured lessons per piece.
    pub pictures: usize,
    /// Text-only lessons per piece.
    pub facts: usize,
    /// Lessons on stated facts per piece.
    pub stated: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Steps of linear warm-up.
    pub warmup: usize,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Weight of the auxiliary loss.
    pub auxiliary: f64,
    /// Seed of initial weights and lessons.
    pub seed: u64,
}

impl From<Pace> for Schedule {
    fn from(pace: Pace) -> Self {
        Self {
            steps: pace.steps,
            pieces: pace.pieces,
            pictures: pace.pictures,
            facts: pace.facts,
            stated: pace.stated,
            lr: pace.lr,
            warmup: pace.warmup,
            weight_decay: pace.weight_decay,
            auxiliary: pace.auxiliary,
            seed: pace.seed,
        }
    }
}

/// The recipe of an embedded model.
///
/// # Errors
/// An unknown name with the nearest one; a recipe that cannot be read.
pub fn find(name: &str) -> anyhow::Result<Recipe> {
    let file = FILES.files().find(|file| stem(file) == Some(name));
    let Some(text) = file.and_then(|file| file.contents_utf8()) else {
        return Err(Error::unknown("model", name, FILES.files().filter_map(stem)).into());
    };
    toml::from_str(text).map_err(|error| anyhow::anyhow!("the recipe of {name}: {error}"))
}

fn stem(file: &include_dir::File<'static>) -> Option<&'static str> {
    file.path().file_stem()?.to_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_reads_under_its_own_name() {
        for name in FILES.files().filter_map(stem) {
            let recipe = find(name).expect("a recipe");
            assert_eq!(recipe.name, name);
            assert!(recipe.config.is_object() && recipe.preprocessor.is_object());
        }
    }

    #[test]
    fn the_issue_asks_for_two() {
        assert!(find("tiny-blip2").is_ok() && find("tiny-minigpt4").is_ok());
        let error = find("tiny-blip").expect_err("unknown").to_string();
        assert_eq!(
            error,
            "unknown model `tiny-blip` — did you mean `tiny-blip2`?"
        );
    }
}
