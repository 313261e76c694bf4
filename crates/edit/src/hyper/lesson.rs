//! The lesson of a hyper-network: its edits must generalise and stay local.
//!
//! Outer objective of `spec/editors.md` 3.5 (Mitchell et al. 2022, equation 5; Cheng et al. 2023):
//! `cedit nll(rephrased prompt) + iedit nll(rephrased picture) + cloc (KL text + KL image)`.
//! The factors of an edit do not depend on the hyper-network, so they are computed once, and so is
//! everything below the first edited matrix.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use debias_model::{
    Batch, Change, Mllm, Parameters, Row, Site, Stage, View, answer_nll, divergence_per_row, host,
};
use serde::{Deserialize, Serialize};

use super::factors::{Gathered, pictured_batch, text_batch};
use super::{HyperNetwork, Sides};
use crate::editor::{Example, Request};
use crate::error::Result;
use crate::training::{Objective, Pupil, Values};

/// Weights of the outer objective.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Weights {
    /// Of the rephrased prompt's loss.
    pub cedit: f64,
    /// Of the rephrased picture's loss.
    pub iedit: f64,
    /// Of both divergences.
    pub cloc: f64,
}

/// A hyper-network with the model it learns to edit.
pub(crate) struct Learner<'m, H> {
    pub editor: &'static str,
    pub model: &'m Mllm,
    pub sites: Vec<&'m Site>,
    pub network: H,
    pub weights: Weights,
}

/// Some records, prepared.
pub(crate) struct Lesson<C> {
    gathered: Gathered,
    condition: C,
    rephrase: (Vec<Row>, Batch),
    image: (Vec<Row>, Batch),
    text_item: Item,
    image_item: Item,
}

/// Unrelated items, in front of the first edited stage and as the base model answers them.
struct Item {
    rows: Vec<Row>,
    batch: Batch,
    base: Batch,
}

impl<H: HyperNetwork> Learner<'_, H> {
    /// The first stage that an edit touches.
    pub fn first(&self) -> Stage {
        self.sites
            .iter()
            .fold(Stage::Head, |first, site| first.earliest(site.stage))
    }

    /// The factors of `requests` at the weights that `start` leaves.
    ///
    /// # Errors
    /// As [`Gathered::new`].
    pub fn gather(&self, requests: &[&Request], start: &Change) -> Result<Gathered> {
        Gathered::new(self.editor, self.model, &self.sites, requests, start)
    }

    fn to_first(&self, batch: Batch) -> Batch {
        let last = Stage::FeedForward(self.model.decoder().outline().depth.saturating_sub(1));
        self.model
            .run(batch, self.first().earliest(last), &self.model.base())
    }

    fn item(&self, (rows, batch): (Vec<Row>, Batch)) -> Item {
        let batch = self.model.run(batch, self.first(), &self.model.base());
        Item {
            rows,
            base: self.model.run(batch.clone(), Stage::Head, &View::base()),
            batch,
        }
    }

    /// Mean over records of the token-mean loss of the target.
    fn target_loss(&self, (rows, batch): &(Vec<Row>, Batch), view: &View) -> Tensor<1> {
        let sums = answer_nll(rows, self.model.answer_logits(batch.clone(), view));
        let lengths: Vec<f32> = rows.iter().map(|row| row.answer().len() as f32).collect();
        let lengths = host::tensor(lengths, [rows.len()], self.model.device());
        (sums.clone() / super::beside(&lengths, &sums)).mean()
    }

    /// Mean over records of the position-mean KL(base ‖ edited).
    fn drift(&self, item: &Item, view: &View) -> Tensor<1> {
        let base = self.model.logits(item.base.clone(), &View::base());
        let edited = self.model.logits(item.batch.clone(), view);
        divergence_per_row(&item.rows, base, edited).mean()
    }
}

impl<H: HyperNetwork> Pupil for Learner<'_, H> {
    type Lesson = Lesson<H::Condition>;

    fn start(&self) -> Values {
        self.network.start()
    }

    fn rate(&self, parameter: &str) -> f64 {
        self.network.rate(parameter)
    }

    fn lesson(&self, examples: &[Example]) -> Result<Self::Lesson> {
        let requests: Vec<&Request> = examples.iter().map(|example| &example.request).collect();
        let target = |example: &Example| example.request.record.y_less.clone();
        let targets: Vec<String> = examples.iter().map(target).collect();
        let asked = || examples.iter().zip(&targets);
        let rephrase = asked().map(|(e, target)| {
            (
                &e.request,
                &e.request.seen,
                e.rephrase.as_str(),
                target.as_str(),
            )
        });
        let image = asked().map(|(e, target)| {
            let prompt = e.request.prompt.as_str();
            (&e.request, &e.seen_rephrase, prompt, target.as_str())
        });
        let image_item = examples.iter().map(|e| {
            let answer = e.request.record.mloc_a.as_str();
            (&e.request, &e.seen_mloc, e.mloc_q.as_str(), answer)
        });
        let text_item = examples.iter().map(|e| {
            let answer = e.request.record.loc_a.as_str();
            (&e.request, e.loc_q.as_str(), answer)
        });
        let start = |(rows, batch)| (rows, self.to_first(batch));
        Ok(Lesson {
            gathered: self.gather(&requests, &Change::default())?,
            condition: self.network.condition(&requests)?,
            rephrase: start(pictured_batch(self.model, rephrase)?),
            image: start(pictured_batch(self.model, image)?),
            text_item: self.item(text_batch(self.model, text_item)?),
            image_item: self.item(pictured_batch(self.model, image_item)?),
        })
    }

    fn bytes(&self, lesson: &Self::Lesson) -> usize {
        let factors: usize = lesson.gathered.factors.values().map(|f| f.bytes()).sum();
        let batches = [
            &lesson.rephrase.1,
            &lesson.image.1,
            &lesson.text_item.batch,
            &lesson.text_item.base,
            &lesson.image_item.batch,
            &lesson.image_item.base,
        ];
        factors + batches.iter().map(|batch| batch.bytes()).sum::<usize>()
    }

    fn observe(&mut self, lesson: &Self::Lesson) {
        self.network.observe(&lesson.gathered);
    }

    fn statistics(&self) -> Values {
        self.network.statistics()
    }

    fn restore(&mut self, statistics: &Values) {
        self.network.restore(statistics);
    }

    fn losses(&self, lesson: &Self::Lesson, values: &Values) -> Result<Objective> {
        let sides: Sides = self
            .network
            .propose(values, &lesson.gathered, &lesson.condition);
        let tracked = values.values().any(Tensor::is_autodiff);
        let view = match tracked {
            true => View::base().tracked(),
            false => View::base(),
        };
        let view = view.beside(sides);
        let rephrase = self.target_loss(&lesson.rephrase, &view);
        let image = self.target_loss(&lesson.image, &view);
        let drift = self.drift(&lesson.text_item, &view) + self.drift(&lesson.image_item, &view);
        let Weights { cedit, iedit, cloc } = self.weights;
        Ok(Objective {
            total: rephrase.clone().mul_scalar(cedit)
                + image.clone().mul_scalar(iedit)
                + drift.clone().mul_scalar(cloc),
            edit: (rephrase + image).div_scalar(2.0),
            locality: drift,
        })
    }
}

/// Factors of one request each, as deltas.
pub(crate) fn changes(sides: &Sides, requests: usize) -> Vec<Change> {
    use debias_model::Delta;
    (0..requests)
        .map(|at| {
            let weights: BTreeMap<String, Delta> = sides
                .iter()
                .map(|(name, (a, b))| {
                    let one = |t: &Tensor<3>| t.clone().narrow(0, at, 1).squeeze_dim(0);
                    let (a, b) = (one(a), one(b));
                    (name.clone(), Delta::LowRank { a, b })
                })
                .collect();
            Change { weights }
        })
        .collect()
}
