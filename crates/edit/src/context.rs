//! Edits of the input: text in front of every prompt.

use std::sync::Arc;

use debias_core::RecordScores;

use crate::error::Result;
use crate::judge::Asked;

/// Facts that are stated in front of every prompt.
#[derive(Clone, Debug, Default)]
pub struct Context {
    facts: Vec<Arc<Stated>>,
}

/// One fact as it is stated.
#[derive(Clone, Debug, Default)]
struct Stated {
    /// What stands in front of the prompt, in pieces; where the model's positions do not suffice,
    /// pieces are left out from the front.
    demonstrations: Vec<String>,
    /// What always stands in front of the prompt.
    fact: String,
}

impl Context {
    /// `prefix` in front of every prompt.
    pub fn prefix(prefix: String) -> Self {
        let fact = Stated {
            demonstrations: Vec::new(),
            fact: prefix,
        };
        Self {
            facts: vec![Arc::new(fact)],
        }
    }

    /// The facts of both.
    #[must_use]
    pub fn with(mut self, more: &Self) -> Self {
        self.facts.extend(more.facts.iter().cloned());
        self
    }

    /// Every text it may put in front of a prompt.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.facts.iter().flat_map(|fact| {
            let texts = fact.demonstrations.iter().chain([&fact.fact]);
            texts.map(String::as_str)
        })
    }

    /// Bytes of text.
    pub fn bytes(&self) -> usize {
        let length = |fact: &Arc<Stated>| {
            fact.fact.len() + fact.demonstrations.iter().map(String::len).sum::<usize>()
        };
        self.facts.iter().map(length).sum()
    }

    /// Scores one record with the text in place.
    pub(crate) fn scores(&self, _asked: &Asked) -> Result<RecordScores> {
        todo!("IKE")
    }
}
