//! The lesson of a hyper-network: its edits must generalise and stay local.
//!
//! Outer objective of `spec/editors.md` 3.5 (Mitchell et al. 2022, equation 5; Cheng et al. 2023):
//! `cedit nll(rephrased prompt) + iedit nll(rephrased picture) + cloc (KL text + KL image)`.
//! The factors of an edit do not depend on the hyper-network, so they are computed once, and so is
//! everything below the first edited matrix.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use debias_model::{
    Batch, Change, Model, Parameter, Parameters, Row, Stage, View, answer_nll, divergence_per_row,
    host,
};
use serde::{Deserialize, Serialize};

use super::factors::{Gathered, Put, batch_of};
use super::{HyperNetwork, Sides};
use crate::editor::{Example, Posed, Request};
use crate::error::{Error, Result};
use crate::training::{Objective, Trainable, Values};

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
    pub model: &'m Model,
    pub sites: Vec<&'m Parameter>,
    pub network: H,
    pub weights: Weights,
}

/// Some records, prepared.
pub(crate) struct TrainingBatch<C> {
    gathered: Gathered,
    condition: C,
    rephrase: (Vec<Row>, Batch),
    /// Absent, as the items are, unless every record has it: the edits of some records stand side
    /// by side in a pass, and each must have its row.
    image: Option<(Vec<Row>, Batch)>,
    text_item: Option<Item>,
    image_item: Option<Item>,
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

    /// One question per example; none where an example has no such question.
    fn put<'e>(
        &self,
        examples: &'e [Example],
        ask: impl Fn(&'e Example) -> Option<Put<'e>>,
    ) -> Result<Option<(Vec<Row>, Batch)>> {
        let asked: Option<Vec<Put>> = examples.iter().map(ask).collect();
        asked.map(|asked| batch_of(self.model, asked)).transpose()
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

impl<H: HyperNetwork> Trainable for Learner<'_, H> {
    type TrainingBatch = TrainingBatch<H::Condition>;

    fn start(&self) -> Values {
        self.network.start()
    }

    fn rate(&self, parameter: &str) -> f64 {
        self.network.rate(parameter)
    }

    fn lesson(&self, examples: &[Example]) -> Result<Self::TrainingBatch> {
        let requests: Vec<&Request> = examples.iter().map(|example| &example.request).collect();
        let rephrase = self.put(examples, |e| {
            Some(Put {
                request: &e.request,
                image: e.request.image.as_ref(),
                // Where there are no other words, the edit must hold on its own.
                prompt: e.rephrase.as_ref().unwrap_or(&e.request.prompt),
                answer: &e.request.record.y_less,
            })
        })?;
        let image = self.put(examples, |e| {
            Some(Put {
                request: &e.request,
                image: Some(e.image_rephrase.as_ref()?),
                prompt: &e.request.prompt,
                answer: &e.request.record.y_less,
            })
        })?;
        let text_item = self.put(examples, |e| unrelated(e, e.t_locality.as_ref()?))?;
        let image_item = self.put(examples, |e| unrelated(e, e.m_locality.as_ref()?))?;
        let start = |(rows, batch)| (rows, self.to_first(batch));
        Ok(TrainingBatch {
            gathered: self.gather(&requests, &Change::default())?,
            condition: self.network.condition(&requests)?,
            rephrase: rephrase.map(start).ok_or(Error::EmptyEdit)?,
            image: image.map(start),
            text_item: text_item.map(|item| self.item(item)),
            image_item: image_item.map(|item| self.item(item)),
        })
    }

    fn bytes(&self, lesson: &Self::TrainingBatch) -> usize {
        let factors: usize = lesson.gathered.factors.values().map(|f| f.bytes()).sum();
        let items = [&lesson.text_item, &lesson.image_item]
            .into_iter()
            .flatten();
        let items = items.map(|item| item.batch.bytes() + item.base.bytes());
        let image = lesson.image.as_ref().map_or(0, |image| image.1.bytes());
        factors + lesson.rephrase.1.bytes() + image + items.sum::<usize>()
    }

    fn observe(&mut self, lesson: &Self::TrainingBatch) {
        self.network.observe(&lesson.gathered);
    }

    fn statistics(&self) -> Values {
        self.network.statistics()
    }

    fn restore(&mut self, statistics: &Values) {
        self.network.restore(statistics);
    }

    fn losses(&self, lesson: &Self::TrainingBatch, values: &Values) -> Result<Objective> {
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
        let image = lesson
            .image
            .as_ref()
            .map(|image| self.target_loss(image, &view));
        let items = [&lesson.text_item, &lesson.image_item]
            .into_iter()
            .flatten();
        let drift = items
            .map(|item| self.drift(item, &view))
            .reduce(|sum, drift| sum + drift)
            .unwrap_or_else(|| rephrase.clone().mul_scalar(0.0));
        let Weights { cedit, iedit, cloc } = self.weights;
        // Text alone has no other picture: what is asked counts in full.
        let (told, edit) = match image {
            Some(image) => (
                rephrase.clone().mul_scalar(cedit) + image.clone().mul_scalar(iedit),
                (rephrase + image).div_scalar(2.0),
            ),
            None => (rephrase.clone().mul_scalar(cedit), rephrase),
        };
        Ok(Objective {
            total: told + drift.clone().mul_scalar(cloc),
            edit,
            locality: drift,
        })
    }
}

/// An unrelated item of an example, as it is put to the model.
fn unrelated<'e>(example: &'e Example, item: &'e Posed) -> Option<Put<'e>> {
    Some(Put {
        request: &example.request,
        image: item.image.as_ref(),
        prompt: &item.prompt,
        answer: &item.answer,
    })
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
