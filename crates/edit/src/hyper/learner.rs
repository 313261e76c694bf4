//! A hyper-network in training.
//!
//! The factors of an edit do not depend on the hyper-network, so they are computed once, and so is
//! everything below the first edited matrix.

use burn::tensor::Tensor;
use debias_model::{Change, View};

use super::factors::Gathered;
use super::objective::EditObjective;
use super::subject::Subject;
use super::{HyperNetwork, LearnedParts};
use crate::editor::{Example, Request};
use crate::error::Result;
use crate::training::{Objective, Trainable, Values};

/// A hyper-network with the model it learns to edit, and what its edits are to do.
pub(crate) struct Learner<'m, N: HyperNetwork> {
    pub subject: Subject<'m>,
    pub network: N,
    pub parts: N::Parts,
    pub objective: N::Objective,
}

/// Some records, prepared.
pub(crate) struct TrainingBatch<N: HyperNetwork> {
    gathered: Gathered,
    condition: N::Condition,
    lesson: <N::Objective as EditObjective>::Lesson,
}

impl<N: HyperNetwork> Learner<'_, N> {
    /// The factors of `requests` at the weights that `start` leaves.
    ///
    /// # Errors
    /// As [`Gathered::new`].
    pub fn gather(&self, requests: &[&Request], start: &Change) -> Result<Gathered> {
        Gathered::new(&self.subject, &self.objective, requests, start)
    }
}

impl<N: HyperNetwork> Trainable for Learner<'_, N> {
    type TrainingBatch = TrainingBatch<N>;

    fn start(&self) -> Values {
        self.parts.start()
    }

    fn rate(&self, parameter: &str) -> f64 {
        self.parts.rate(parameter)
    }

    fn lesson(&self, examples: &[Example]) -> Result<Self::TrainingBatch> {
        let requests: Vec<&Request> = examples.iter().map(|example| &example.request).collect();
        let gathered = self.gather(&requests, &Change::default())?;
        Ok(TrainingBatch {
            gathered: if self.network.learns_together() {
                gathered.joined()
            } else {
                gathered
            },
            condition: self.network.condition(&self.subject, &requests)?,
            lesson: self.objective.lesson(&self.subject, examples)?,
        })
    }

    fn bytes(&self, batch: &Self::TrainingBatch) -> usize {
        batch.gathered.bytes() + self.objective.bytes(&batch.lesson)
    }

    fn observe(&mut self, batch: &Self::TrainingBatch) {
        self.parts.observe(&batch.gathered);
    }

    fn statistics(&self) -> Values {
        self.parts.statistics()
    }

    fn restore(&mut self, statistics: &Values) {
        self.parts.restore(statistics);
    }

    fn losses(&self, batch: &Self::TrainingBatch, values: &Values) -> Result<Objective> {
        let (gathered, condition) = (&batch.gathered, &batch.condition);
        let sides = self
            .network
            .propose(&self.parts, values, gathered, condition);
        let tracked = values.values().any(Tensor::is_autodiff);
        let view = if tracked {
            View::base().tracked()
        } else {
            View::base()
        };
        let view = view.beside(sides);
        Ok(self.objective.losses(&self.subject, &batch.lesson, &view))
    }
}
