//! Edits of the output: remembered requests and a counterfactual model for what is in scope.
//!
//! SERAC (Mitchell et al. 2022, "Memory-based model editing at scale"); `spec/editors.md` 3.3. A
//! memory never touches the model. It decides for each question whether a remembered request is
//! about it, and if so mixes the base model's distribution with that of the counterfactual model,
//! which reads the request in front of the question.

pub(crate) mod ask;
pub(crate) mod gate;
pub(crate) mod mix;
mod rank;
mod respondent;
pub(crate) mod scope;

use std::sync::Arc;

use debias_model::{Model, View};
use serde::{Deserialize, Serialize};

use self::ask::Remembered;
use self::gate::Gate;
pub use self::mix::{Align, Mix};
use self::scope::Scope;
use crate::editor::Request;
use crate::error::{Error, Result};

/// Remembered requests, and the trained parts that all of them share.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    entries: Vec<Entry>,
}

/// What the classifier of scope reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScopeText {
    /// The prompt alone, so that the decision does not depend on the candidate.
    #[serde(rename = "prompt")]
    Prompt,
    /// Prompt and candidate answer (the reference).
    #[serde(rename = "prompt+answer")]
    PromptAnswer,
}

impl ScopeText {
    /// The text that stands for a prompt and an answer.
    pub(crate) fn of(self, prompt: &str, answer: &str) -> String {
        match self {
            ScopeText::Prompt => prompt.to_owned(),
            ScopeText::PromptAnswer => format!("{prompt} {answer}"),
        }
    }
}

/// The trained parts, and how they are used.
#[derive(Debug)]
pub(crate) struct SeracParts {
    pub scope: Scope,
    pub scope_text: ScopeText,
    /// Compares pictures, unless text alone decides.
    pub gate: Option<Gate>,
    /// The model with a last layer of its own.
    pub counterfactual: View,
    pub mix: Mix,
    pub align: Align,
}

/// One remembered request.
#[derive(Clone, Debug)]
struct Entry {
    parts: Arc<SeracParts>,
    kept: Arc<Kept>,
}

/// What is kept of a request.
#[derive(Debug)]
struct Kept {
    text: Remembered,
    /// What the classifier of scope reads, and its vector.
    about: String,
    key: Vec<f32>,
    /// What the gate compares.
    picture: Option<Vec<f32>>,
}

impl Memory {
    /// A memory of one request.
    ///
    /// # Errors
    /// A prompt that cannot be read.
    pub(crate) fn of(parts: &Arc<SeracParts>, model: &Model, request: &Request) -> Result<Self> {
        let text = Remembered::new(&request.prompt, &request.record.y_less);
        let about = parts.scope_text.of(&request.prompt, &request.record.y_less);
        let picture = parts.gate.as_ref().zip(request.image.as_ref());
        let kept = Kept {
            key: parts.scope.key(&about)?,
            picture: picture
                .map(|(gate, image)| gate.picture(model, image))
                .transpose()?,
            text,
            about,
        };
        let entry = Entry {
            parts: parts.clone(),
            kept: Arc::new(kept),
        };
        Ok(Self {
            entries: vec![entry],
        })
    }

    /// The entries of both.
    #[must_use]
    pub fn with(mut self, more: &Self) -> Self {
        self.entries.extend(more.entries.iter().cloned());
        self
    }

    /// The memory without entry `at`, as if that request had never been made.
    #[must_use]
    pub fn without(mut self, at: usize) -> Self {
        if at < self.entries.len() {
            self.entries.remove(at);
        }
        self
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// A setting of the editor that cannot be used.
pub(crate) fn setting(key: &str, problem: String) -> Error {
    Error::Core(debias_core::Error::Setting {
        key: format!("serac.{key}"),
        problem,
    })
}
