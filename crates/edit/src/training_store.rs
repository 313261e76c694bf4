//! Where an editor's trained parts are kept. The editor learns; the caller owns files, threads and
//! the terminal.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use debias_model::Workers;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Result;

/// A matrix on the device that the model is on.
pub type Matrix = Tensor<2>;

/// Trained parts, or a training that was interrupted, as values that can be stored.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Matrix>,
    /// Everything that is not a tensor.
    pub notes: Value,
}

/// The losses of one step or one validation, nats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// Optimiser steps done.
    pub step: usize,
    /// The whole objective.
    pub total: f64,
    /// Negative log-likelihood of the target after the edit, mean of both generalities.
    pub edit: f64,
    /// Divergence from the base model on unrelated items, sum of both localities.
    pub locality: f64,
}

/// What a training has been through.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Every step.
    pub train: Vec<Losses>,
    /// Every validation.
    pub val: Vec<Losses>,
    /// Step of the validation that was kept.
    pub best: usize,
    /// Why it ended.
    pub end: String,
}

/// The place where one training happens.
pub trait TrainingStore: Sync {
    /// Who computes; their number changes no result.
    fn workers(&self) -> Workers {
        Workers::Threads(1)
    }

    /// Parts that were trained before under the same identity.
    ///
    /// # Errors
    /// A stored artifact that cannot be used.
    fn finished(&self) -> Result<Option<Parts>> {
        Ok(None)
    }

    /// A training under the same identity that did not come to its end.
    ///
    /// # Errors
    /// A stored state that cannot be used.
    fn interrupted(&self) -> Result<Option<Parts>> {
        Ok(None)
    }

    /// Keeps a state from which the training can go on; called at every validation.
    ///
    /// # Errors
    /// When it cannot be kept.
    fn keep(&self, _state: &Parts, _history: &History) -> Result<()> {
        Ok(())
    }

    /// Keeps the trained parts, best by validation and last.
    ///
    /// # Errors
    /// When they cannot be kept.
    fn finish(&self, _best: &Parts, _last: &Parts, _history: &History) -> Result<()> {
        Ok(())
    }

    /// Called after every step of `of`.
    ///
    /// # Errors
    /// [`Error::Stopped`](crate::Error::Stopped) when the user wants the training to end.
    fn step(&self, _losses: &Losses, _of: usize) -> Result<()> {
        Ok(())
    }
}

/// A store that keeps nothing.
pub struct Nowhere;

impl TrainingStore for Nowhere {}
