//! The lines that come in and go out.

use debias_model::AnswerLikelihood;
use debias_model::engine::{Asked, Written};
use serde::{Deserialize, Serialize};

use super::style;
use crate::terminal::lines::image;

/// A line of `bench score`.
#[derive(Clone, Debug, Deserialize)]
pub struct Item {
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

impl Item {
    /// What the model is asked by the line `name`; with `raw`, nothing is put around the prompt.
    pub fn asked(&self, name: String, raw: bool) -> Asked {
        Asked {
            name,
            prompt: self.prompt.clone(),
            image: self.image.clone(),
            choices: vec![self.answer.clone()],
            join: self.join.clone(),
            style: style(raw),
            ..Asked::default()
        }
    }
}

/// The log-likelihood of one answer.
#[derive(Clone, Debug, Serialize)]
pub struct Score {
    /// Of all its tokens.
    pub sum: f64,
    /// Per token.
    pub mean: f64,
    /// Number of tokens.
    pub tokens: usize,
    /// Of each token.
    pub token_logprobs: Vec<f64>,
}

impl From<AnswerLikelihood> for Score {
    fn from(likelihood: AnswerLikelihood) -> Self {
        Self {
            sum: likelihood.sum(),
            mean: likelihood.mean(),
            tokens: likelihood.tokens.len(),
            token_logprobs: likelihood.tokens,
        }
    }
}

/// A line of `bench generate`.
#[derive(Clone, Debug, Deserialize)]
pub struct Prompt {
    /// The prompt.
    pub prompt: String,
    /// A picture, relative to the images' folder.
    #[serde(default, deserialize_with = "image")]
    pub image: Option<String>,
}

impl Prompt {
    /// What the model is asked by the line `name`; with `raw`, nothing is put around the prompt.
    pub fn asked(&self, name: String, raw: bool) -> Asked {
        Asked {
            name,
            prompt: self.prompt.clone(),
            image: self.image.clone(),
            style: style(raw),
            ..Asked::default()
        }
    }
}

/// A continuation as it is written out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Continued {
    /// Its text.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// All continuations, where several were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Continued>,
}

impl From<Written> for Continued {
    fn from(written: Written) -> Self {
        Self {
            text: written.text,
            tokens: written.tokens,
            samples: Vec::new(),
        }
    }
}

impl Continued {
    /// The first of the continuations of one prompt, and all of them where there are `several`.
    pub fn of(written: Vec<Written>, several: bool) -> Self {
        let all: Vec<Self> = written.into_iter().map(Self::from).collect();
        let first = all.first().cloned().unwrap_or_default();
        Self {
            samples: if several { all } else { Vec::new() },
            ..first
        }
    }

    /// The text of every continuation.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let own = self.samples.is_empty().then_some(self.text.as_str());
        let samples = self.samples.iter().map(|sample| sample.text.as_str());
        own.into_iter().chain(samples)
    }
}

/// What a line of output says beside its id.
#[derive(Clone, Debug, Serialize)]
pub struct Line<'a, A> {
    /// The answer of the model, or of its variant.
    #[serde(flatten)]
    pub answer: A,
    /// What the model answers without the variant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<A>,
    /// The chat template around the prompt, where it is that of the model's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<&'a str>,
}
