//! What a network that turns gradients into edits is.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use debias_core::Preset;
use debias_model::Change;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::config::Config;
use super::factors::Gathered;
use super::objective::EditObjective;
use super::sites::Matrices;
use super::subject::Subject;
use crate::editor::{Effect, Lessons, Request};
use crate::error::Result;
use crate::training::Values;

/// Side-path factors of every edited matrix: a `[requests, r, columns]`, b `[requests, rows, r]`
/// in the published orientation.
pub(crate) type Sides = BTreeMap<String, (Tensor<3>, Tensor<3>)>;

/// The parts of a hyper-network that are trained.
pub(crate) trait LearnedParts: Send + Sync {
    /// The parameters at the start.
    fn start(&self) -> Values;

    /// Learning rate of one parameter.
    fn rate(&self, parameter: &str) -> f64;

    /// Takes notice of the factors of a training lesson, before they are used.
    fn observe(&mut self, _gathered: &Gathered) {}

    /// Running statistics.
    fn statistics(&self) -> Values {
        Values::new()
    }

    /// Goes on from stored statistics.
    fn restore(&mut self, _statistics: &Values) {}
}

/// A kind of network that turns gradients into edits; the value holds its settings and those of its
/// objective.
pub(crate) trait HyperNetwork: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What it trains.
    type Parts: LearnedParts;

    /// What it learns by.
    type Objective: EditObjective;

    /// What it reads of a request besides the gradient.
    type Condition: Send + Sync;

    /// The setting that, at 0, makes every edit of an untrained network leave the model as it is.
    const GATE: &'static str;

    /// What the seed decides, in words.
    const RANDOM: &'static str;

    /// What an edit does to its own record.
    const EFFECT: Effect = Effect::Margin;

    /// Whether several requests have a better edit than the sum of the single ones:
    /// [`HyperNetwork::propose`] then sees their factors as those of one.
    const JOINT: bool = false;

    /// The feed-forward matrices that it edits.
    const MATRICES: Matrices = Matrices::Both;

    /// All settings under `preset`.
    fn preset(preset: Preset) -> Config<Self>;

    /// The parts for the model and the weights of `subject`, before training.
    fn parts(&self, subject: &Subject, seed: u64) -> Self::Parts;

    /// What it learns by, on the records of `lessons`.
    fn objective(&self, lessons: &Lessons, seed: u64) -> Self::Objective;

    /// Reads what [`HyperNetwork::propose`] needs of the requests.
    ///
    /// # Errors
    /// Text that cannot be tokenised.
    fn condition(&self, subject: &Subject, requests: &[&Request]) -> Result<Self::Condition>;

    /// Whether the requests of a training lesson are one edit, as with [`HyperNetwork::JOINT`].
    fn learns_together(&self) -> bool {
        false
    }

    /// The edit of every request of `gathered`, alone.
    fn propose(
        &self,
        parts: &Self::Parts,
        values: &Values,
        gathered: &Gathered,
        condition: &Self::Condition,
    ) -> Sides;

    /// The last word on the `change` that was proposed for `request`.
    ///
    /// # Errors
    /// What the model refuses.
    fn finish(
        &self,
        _subject: &Subject,
        _request: &Request,
        change: Change,
        _start: &Change,
    ) -> Result<Change> {
        Ok(change)
    }

    /// The gradient that it turns, as the edit of a network that leaves it as it is; with the rank
    /// that its edits may have beyond that of the gradient. None where no such network exists.
    fn probe(&self, _parts: &Self::Parts, _gathered: &Gathered) -> Option<(Sides, usize)> {
        None
    }
}
