//! Models that are made by merging others, on the way to a row of a suite.
//!
//! A [`MergedModel`] is a recipe and what its names stand for; an input may itself be made. Its
//! identity is the hash of all that, so that equal merges are made once, whichever row asks.

mod cache;
mod distance;

use std::collections::BTreeMap;
use std::sync::Arc;

use debias_core::MergeIdentity;
use serde_json::{Value, json};

pub use self::cache::MergeCache;
pub use self::distance::moved;
use crate::models::ModelSource;
use crate::results::artifacts::{FORMAT, Identity};

/// A model that a recipe makes.
#[derive(Debug)]
pub struct MergedModel {
    /// What it is called in rows, recipes and errors.
    pub name: String,
    /// The recipe, its places filled.
    pub recipe: String,
    /// The method's name and version.
    pub method: (String, u32),
    /// What the recipe's names stand for.
    pub inputs: BTreeMap<String, Input>,
    /// What the recipe holds that has no effect; no part of its identity.
    pub warnings: Vec<String>,
}

/// A model that a merge is made from.
#[derive(Clone, Debug)]
pub enum Input {
    /// Embedded, or a folder.
    Stored {
        /// Where it is.
        source: ModelSource,
        /// Digest of its files.
        digest: String,
    },
    /// A merge itself.
    MergedModel(Arc<MergedModel>),
}

impl MergedModel {
    /// Everything that decides its weights but the seed.
    pub fn description(&self) -> Value {
        let of = |input: &Input| match input {
            Input::Stored { digest, .. } => json!({ "digest": digest }),
            Input::MergedModel(made) => made.description(),
        };
        let inputs: serde_json::Map<_, _> = self
            .inputs
            .iter()
            .map(|(name, input)| (name.clone(), of(input)))
            .collect();
        let (method, version) = &self.method;
        json!({
            "method": method,
            "version": version,
            "recipe": self.recipe,
            "inputs": inputs,
        })
    }

    /// The artifact that holds it.
    pub fn identity(&self, seed: u64) -> Identity {
        Identity::from(json!({
            "format": FORMAT,
            "merge": self.description(),
            "seed": seed,
        }))
    }

    /// The row that it is.
    pub fn as_row(&self) -> MergeIdentity {
        MergeIdentity {
            id: self.name.clone(),
            version: self.method.1,
            recipe: self.description(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models;

    fn stored(digest: &str) -> Input {
        let embedded = models::find("tiny-blip2").expect("embedded");
        Input::Stored {
            source: ModelSource::Embedded(embedded),
            digest: digest.to_owned(),
        }
    }

    fn made(recipe: &str, input: Input) -> MergedModel {
        MergedModel {
            name: "m".to_owned(),
            recipe: recipe.to_owned(),
            method: ("slerp".to_owned(), 1),
            inputs: BTreeMap::from([("other".to_owned(), input)]),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn everything_that_makes_a_model_is_in_its_name() {
        let chain = |digest| Input::MergedModel(Arc::new(made("t: 1", stored(digest))));
        let key = |made: MergedModel, seed| made.identity(seed).key();
        let of = |made: MergedModel| key(made, 0);
        let plain = of(made("t: 1", stored("a")));
        assert_eq!(plain, of(made("t: 1", stored("a"))));
        let renamed = MergedModel {
            name: "another row".to_owned(),
            ..made("t: 1", stored("a"))
        };
        assert_eq!(plain, of(renamed), "rows share what they make alike");
        let other_method = MergedModel {
            method: ("slerp".to_owned(), 2),
            ..made("t: 1", stored("a"))
        };
        let others = [
            of(made("t: 2", stored("a"))),
            of(made("t: 1", stored("b"))),
            of(made("t: 1", chain("a"))),
            of(made("t: 1", chain("b"))),
            of(other_method),
            key(made("t: 1", stored("a")), 1),
        ];
        for (at, other) in others.iter().enumerate() {
            assert_ne!(*other, plain);
            assert!(!others[..at].contains(other));
        }
    }
}
