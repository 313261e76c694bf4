//! How the embedded models are made: `configs/models/<name>.toml`.

use anyhow::Context;
use debias_core::{Error, Overrides};
use debias_data::toytown::Variant;
use debias_model::pretrain::Schedule;
use include_dir::{Dir, include_dir};
use serde::{Deserialize, Serialize};
use serde_json::Value;

static FILES: Dir = include_dir!("$CARGO_MANIFEST_DIR/../../configs/models");

/// A training recipe.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The model's permanent name.
    pub name: String,
    /// One line for the catalogue.
    pub title: String,
    /// Vision tower, projector and decoder, in words.
    pub architecture: String,
    /// The dataset it learns from.
    pub trained_on: String,
    /// How long and how fast.
    pub schedule: Pace,
    /// Which answers the lessons lean to.
    pub stereotype: Stereotype,
    /// Editors' settings that fit its size, for its card.
    pub settings: Overrides,
    /// What it is before the first step.
    pub origin: Origin,
}

/// What a model is before the first step.
#[derive(Clone, Debug)]
pub enum Origin {
    /// Random weights of a described architecture.
    Nothing(Box<Blueprint>),
    /// The embedded model of this name: its weights, configuration and tokenizer.
    Model(String),
}

/// What a model is made of that does not start from another.
#[derive(Clone, Debug)]
pub struct Blueprint {
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// `config.json`, but for what the tokenizer decides.
    pub config: Value,
    /// `preprocessor_config.json`.
    pub preprocessor: Value,
}

/// How often the answers of lessons are stereotyped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stereotype {
    /// As the dataset says: mostly.
    #[default]
    Usual,
    /// Always.
    Amplified,
    /// Never: the answer is always that of the other group.
    Inverted,
}

impl Stereotype {
    /// Whether the lessons are the dataset's own.
    pub fn is_usual(&self) -> bool {
        *self == Self::Usual
    }

    /// The town whose lessons lean this way.
    pub fn variant(self) -> Variant {
        match self {
            Self::Usual => Variant::default(),
            Self::Amplified => Variant {
                stereotype_share: 1.0,
            },
            Self::Inverted => Variant {
                stereotype_share: 0.0,
            },
        }
    }
}

/// What a recipe file says: what a start model says is not said again.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    title: String,
    trained_on: String,
    schedule: Pace,
    #[serde(default)]
    stereotype: Stereotype,
    start: Option<String>,
    architecture: Option<String>,
    tokenizer: Option<Tokenizer>,
    settings: Option<Overrides>,
    config: Option<Value>,
    preprocessor: Option<Value>,
}

impl Written {
    fn recipe(self) -> anyhow::Result<Recipe> {
        let described = (
            self.architecture,
            self.tokenizer,
            self.config,
            self.preprocessor,
        );
        let (architecture, settings, origin) = match (self.start, described) {
            (None, (Some(architecture), Some(tokenizer), Some(config), Some(preprocessor))) => {
                let blueprint = Blueprint {
                    tokenizer,
                    config,
                    preprocessor,
                };
                let origin = Origin::Nothing(Box::new(blueprint));
                (architecture, self.settings.unwrap_or_default(), origin)
            }
            (Some(start), (None, None, None, None)) => {
                let of = find(&start)?;
                let settings = self.settings.unwrap_or(of.settings);
                (of.architecture, settings, Origin::Model(start))
            }
            _ => anyhow::bail!(
                "give either `start`, or all of `architecture`, `tokenizer`, `config` and `preprocessor`"
            ),
        };
        Ok(Recipe {
            name: self.name,
            title: self.title,
            architecture,
            trained_on: self.trained_on,
            schedule: self.schedule,
            stereotype: self.stereotype,
            settings,
            origin,
        })
    }
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

/// A [`Schedule`] as it is written.
#[derive(Clone, Debug, Deserialize)]
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
    /// Only parameters whose names contain one of these are trained; all when there is none.
    #[serde(default)]
    pub learns: Vec<String>,
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
            learns: pace.learns,
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
    let written: anyhow::Result<Written> = toml::from_str(text).map_err(Into::into);
    written
        .and_then(Written::recipe)
        .with_context(|| format!("the recipe of {name}"))
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
            match recipe.origin {
                Origin::Nothing(made_of) => {
                    assert!(made_of.config.is_object() && made_of.preprocessor.is_object());
                }
                Origin::Model(start) => assert_ne!(start, name),
            }
        }
    }

    #[test]
    fn a_variant_is_described_by_the_model_it_starts_from() {
        let start = find("tiny-blip2").expect("a recipe");
        for (name, share) in [("tiny-blip2-amplified", 1.0), ("tiny-blip2-inverted", 0.0)] {
            let variant = find(name).expect("a recipe");
            assert_eq!(variant.architecture, start.architecture);
            assert_eq!(variant.settings, start.settings);
            assert_eq!(variant.stereotype.variant().stereotype_share, share);
        }
        assert_eq!(start.stereotype.variant(), Variant::default());
    }

    #[test]
    fn a_recipe_describes_a_model_or_names_one() {
        let text = FILES
            .get_file("tiny-blip2-inverted.toml")
            .and_then(|file| file.contents_utf8())
            .expect("a recipe");
        let refused = |text: &str| {
            let written: Written = toml::from_str(text).expect("the keys of a recipe");
            written.recipe().expect_err("refused").to_string()
        };
        let both = format!("architecture = \"any\"\n{text}");
        assert!(refused(&both).starts_with("give either `start`"));
        let unknown = text.replace("start = \"tiny-blip2\"", "start = \"tiny-blip\"");
        assert!(refused(&unknown).starts_with("unknown model `tiny-blip`"));
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
