//! What the keys of a recipe may say.

use std::path::PathBuf;

use debias_model::tune::{Reduction, Shape};
use serde::{Deserialize, Serialize};

/// Which tokens are learnt, and where answers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Every token.
    Causal,
    /// The tokens of answers.
    Answers,
    /// The same, the answers from a file of pseudo labels.
    Labels,
}

impl Kind {
    /// Its name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Causal => "causal",
            Self::Answers => "answers",
            Self::Labels => "labels",
        }
    }
}

/// What is trained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "`trains` is \"all\", \"lora\" or a list of parts of names"
)]
pub enum Trains {
    /// `all` or `lora`.
    Word(Word),
    /// Parameters whose names contain one of these.
    Named(Vec<String>),
}

/// A choice of [`Trains`] by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// All weights.
    All,
    /// An adapter.
    Lora,
}

/// Where an adapter goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "`targets` is \"decoder-linear\" or a list of ends of module names"
)]
pub enum Targets {
    /// `decoder-linear`.
    Word(TargetWord),
    /// Modules of the language model whose names end in one of these.
    Named(Vec<String>),
}

/// A choice of [`Targets`] by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetWord {
    /// Every linear layer of the language model but its head.
    #[serde(rename = "decoder-linear")]
    DecoderLinear,
}

/// The adapter of `trains = "lora"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lora {
    /// Inner dimension.
    pub r: usize,
    /// The product is multiplied by `alpha / r`.
    pub alpha: f64,
    /// Always 0 here.
    pub dropout: f64,
    /// Where it goes.
    pub targets: Targets,
    /// Parts of names of parameters that are trained whole beside it; `projector` is the model's.
    pub also: Vec<String>,
    /// An adapter that is trained on, in the place of a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
}

impl Default for Lora {
    fn default() -> Self {
        Self {
            r: 16,
            alpha: 32.0,
            dropout: 0.0,
            targets: Targets::Word(TargetWord::DecoderLinear),
            also: Vec::new(),
            from: None,
        }
    }
}

/// A [`Shape`] by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Falls in a straight line.
    Linear,
    /// Falls along a cosine.
    Cosine,
    /// Stays.
    Constant,
}

impl From<Schedule> for Shape {
    fn from(schedule: Schedule) -> Self {
        match schedule {
            Schedule::Linear => Self::Linear,
            Schedule::Cosine => Self::Cosine,
            Schedule::Constant => Self::Constant,
        }
    }
}

/// A [`Reduction`] by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Over {
    /// Tokens.
    Tokens,
    /// Items.
    Items,
}

impl From<Over> for Reduction {
    fn from(over: Over) -> Self {
        match over {
            Over::Tokens => Self::Tokens,
            Over::Items => Self::Items,
        }
    }
}
