//! A merge's contract.

use serde_json::{Map, Value};

use crate::card::{Card, Values};
use crate::error::Result;
use crate::target::Target;

/// What a merge must know of the whole model before its first tensor, and what its reader wants to
/// know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// For the merge itself.
    pub numbers: Vec<f64>,
    /// For people, one sentence each.
    pub remarks: Vec<String>,
    /// For the manifest, by tensor.
    pub statistics: Map<String, Value>,
}

/// What a merge does with LoRA adapters that are merged among themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnAdapters {
    /// Merges `A` and `B` each as a tensor, with zeros for a base.
    Apart,
    /// Adds up their products by `weight`, which factors side by side do exactly.
    Concatenated,
    /// RobustMerge, which merges adapters and nothing else.
    Robust,
}

/// A merge of checkpoints, tensor by tensor.
pub trait Merger: Sync {
    /// Name, paper, equation, parameters, inputs.
    fn card(&self) -> &Card;

    /// Refuses parameters that no tensor can be merged with, before any weight is read. `others`
    /// holds the values of the inputs besides the base, or of all of them where the base is ignored.
    ///
    /// # Errors
    /// What is wrong, and with which parameter.
    fn check(
        &self,
        _shared: &Values,
        _others: &[&Values],
    ) -> std::result::Result<(), (&'static str, String)> {
        Ok(())
    }

    /// Reads all tensors once or more, for merges whose tensors are not independent.
    ///
    /// # Errors
    /// A value that is not finite; an interruption.
    fn survey(&self, _targets: &[&Target]) -> Result<Facts> {
        Ok(Facts::default())
    }

    /// Passes over the inputs that a survey and a merge take together, for the estimate of
    /// `--check`.
    fn passes(&self) -> usize {
        1
    }

    /// What becomes of LoRA adapters that are merged among themselves, without a base.
    fn on_adapters(&self) -> OnAdapters {
        OnAdapters::Apart
    }

    /// Makes one tensor.
    ///
    /// # Errors
    /// A value that is not finite, inputs without a result, a disk that is full, an interruption.
    fn merge(&self, target: &Target, facts: &Facts) -> Result<()>;
}
