//! The tokens of the output: those of one model, and what is added to them.

use std::collections::{BTreeSet, HashSet};

use super::messages::listed;
use super::tokens::{Added, Tokens};

/// Tokens of a model, extended at their end.
pub(super) struct Union {
    /// All of them.
    pub tokens: Tokens,
}

impl Union {
    /// Nothing but the tokens of one model.
    pub fn of(tokens: &Tokens) -> Self {
        Self {
            tokens: tokens.clone(),
        }
    }

    /// Adds what other models have besides: first their normal tokens, then their added ones with
    /// their flags, model by model and by id. A token that is normal here and added there becomes
    /// an added one.
    pub fn extend(&mut self, others: &[&Tokens], notes: &mut Vec<String>) {
        let added = others.iter().flat_map(|other| other.added.values());
        let marked: HashSet<&str> = added.clone().map(|added| &*added.content).collect();
        for token in others.iter().flat_map(|other| other.in_order()) {
            if !marked.contains(token) {
                self.add(token);
            }
        }
        let disputed = added.filter(|added| !self.mark(added));
        let disputed: BTreeSet<&str> = disputed.map(|added| &*added.content).collect();
        let disputed: Vec<&str> = disputed.into_iter().collect();
        if !disputed.is_empty() {
            notes.push(format!(
                "added tokens with several settings keep the first model's: {}",
                listed(&disputed)
            ));
        }
    }

    /// Adds a normal token, if it is not there.
    pub fn add(&mut self, token: &str) {
        if self.tokens.id(token).is_none() {
            self.mark(&Added::plain(token));
        }
    }

    /// Makes sure that a token is there, and an added one; whether its settings are `added`'s.
    fn mark(&mut self, added: &Added) -> bool {
        let token = added.content.as_str();
        let id = self.tokens.id(token).unwrap_or_else(|| {
            let id = self.tokens.end();
            self.tokens.put(token, id);
            id
        });
        self.tokens.added.entry(id).or_insert_with(|| added.clone()) == added
    }
}
