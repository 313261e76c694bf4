//! What a hyper-network learns by: the loss whose gradient it turns, and what its edits are to do.

use burn::tensor::Tensor;
use debias_model::{Batch, Parameters, Row, Stage, View, answer_nll, divergence_per_row, host};
use serde::{Deserialize, Serialize};

use super::subject::{Put, Subject, target_batch, unrelated};
use crate::card::Setting;
use crate::editor::{Example, Request};
use crate::error::{Error, Result};
use crate::training::Objective;

/// The objective of an editor.
pub(crate) trait EditObjective: Send + Sync + 'static {
    /// Some records, as far as the never-edited model can prepare them.
    type Lesson: Send + Sync;

    /// The rows whose loss is differentiated for the factors of an edit, the same number for every
    /// request and side by side.
    ///
    /// # Errors
    /// A request that cannot be tokenised.
    fn asked(&self, subject: &Subject, requests: &[&Request]) -> Result<(Vec<Row>, Batch)> {
        target_batch(subject.model, requests)
    }

    /// That loss, of every request: `[requests]`.
    fn told(&self, rows: &[Row], logits: Tensor<3>) -> Tensor<1> {
        token_means(rows, logits)
    }

    /// Whether only positions that predict an answer's token are factors of an edit.
    fn labelled_alone(&self) -> bool {
        false
    }

    /// Prepares what edits of `examples` are judged by.
    ///
    /// # Errors
    /// A record that cannot be tokenised.
    fn lesson(&self, subject: &Subject, examples: &[Example]) -> Result<Self::Lesson>;

    /// Bytes that a lesson holds.
    fn bytes(&self, lesson: &Self::Lesson) -> usize;

    /// The losses of the edits that `view` lays over the model: one for all rows of the lesson, or
    /// one for each of its records.
    fn losses(&self, subject: &Subject, lesson: &Self::Lesson, view: &View) -> Objective;

    /// What a reader of the result must know, one sentence each.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Loss per token of each row's answer, `[b]`.
pub(crate) fn token_means(rows: &[Row], logits: Tensor<3>) -> Tensor<1> {
    let device = logits.device().inner();
    let sums = answer_nll(rows, logits);
    let lengths: Vec<f32> = rows.iter().map(|row| row.answer().len() as f32).collect();
    let lengths = host::tensor(lengths, [rows.len()], &device);
    sums.clone() / beside(&lengths, &sums)
}

/// A plain tensor as `like` needs it: in the graph of a gradient, or not.
pub(crate) fn beside<const D: usize, const E: usize>(
    tensor: &Tensor<D>,
    like: &Tensor<E>,
) -> Tensor<D> {
    if like.is_autodiff() {
        tensor.clone().autodiff()
    } else {
        tensor.clone()
    }
}

/// An edit must generalise and stay local.
///
/// Outer objective of `spec/editors.md` 3.5 (Mitchell et al. 2022, equation 5; Cheng et al. 2023):
/// `cedit nll(rephrased prompt) + iedit nll(rephrased picture) + cloc (KL text + KL image)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Generalise {
    /// Of the rephrased prompt's loss.
    pub cedit: f64,
    /// Of the rephrased picture's loss.
    pub iedit: f64,
    /// Of both divergences.
    pub cloc: f64,
}

impl Generalise {
    /// The weights as settings, with their meaning.
    pub const SETTINGS: &[Setting] = &[
        ("cedit", "weight of the rephrased prompt's loss"),
        ("iedit", "weight of the rephrased picture's loss"),
        ("cloc", "weight of both divergences"),
    ];

    /// The published weights.
    pub const PUBLISHED: Self = Self {
        cedit: 0.1,
        iedit: 0.1,
        cloc: 1.0,
    };

    /// Mean over records of the token-mean loss of the target.
    fn target(subject: &Subject, (rows, batch): &(Vec<Row>, Batch), view: &View) -> Tensor<1> {
        token_means(rows, subject.model.answer_logits(batch.clone(), view)).mean()
    }
}

/// What edits of some records must do in other words and pictures, and leave alone.
pub(crate) struct Judged {
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

impl Item {
    fn of(subject: &Subject, (rows, batch): (Vec<Row>, Batch)) -> Self {
        let model = subject.model;
        let batch = model.run(batch, subject.first(), &model.base());
        Self {
            rows,
            base: model.run(batch.clone(), Stage::Head, &View::base()),
            batch,
        }
    }

    /// Mean over records of the position-mean KL(base ‖ edited).
    fn drift(&self, subject: &Subject, view: &View) -> Tensor<1> {
        let base = subject.model.logits(self.base.clone(), &View::base());
        let edited = subject.model.logits(self.batch.clone(), view);
        divergence_per_row(&self.rows, base, edited).mean()
    }
}

impl EditObjective for Generalise {
    type Lesson = Judged;

    fn lesson(&self, subject: &Subject, examples: &[Example]) -> Result<Judged> {
        let rephrase = subject.put(examples, |e| {
            Some(Put {
                request: &e.request,
                image: e.request.image.as_ref(),
                // Where there are no other words, the edit must hold on its own.
                prompt: e.rephrase.as_ref().unwrap_or(&e.request.prompt),
                answer: &e.request.record.y_less,
            })
        })?;
        let image = subject.put(examples, |e| {
            Some(Put {
                request: &e.request,
                image: Some(e.image_rephrase.as_ref()?),
                prompt: &e.request.prompt,
                answer: &e.request.record.y_less,
            })
        })?;
        let text_item = subject.put(examples, |e| Some(unrelated(e, e.t_locality.as_ref()?)))?;
        let image_item = subject.put(examples, |e| Some(unrelated(e, e.m_locality.as_ref()?)))?;
        let start = |(rows, batch)| (rows, subject.to_first(batch));
        Ok(Judged {
            rephrase: rephrase.map(start).ok_or(Error::EmptyEdit)?,
            image: image.map(start),
            text_item: text_item.map(|item| Item::of(subject, item)),
            image_item: image_item.map(|item| Item::of(subject, item)),
        })
    }

    fn bytes(&self, lesson: &Judged) -> usize {
        let items = [&lesson.text_item, &lesson.image_item]
            .into_iter()
            .flatten();
        let items = items.map(|item| item.batch.bytes() + item.base.bytes());
        let image = lesson.image.as_ref().map_or(0, |image| image.1.bytes());
        lesson.rephrase.1.bytes() + image + items.sum::<usize>()
    }

    fn losses(&self, subject: &Subject, lesson: &Judged, view: &View) -> Objective {
        let rephrase = Self::target(subject, &lesson.rephrase, view);
        let image = lesson.image.as_ref();
        let image = image.map(|image| Self::target(subject, image, view));
        let items = [&lesson.text_item, &lesson.image_item]
            .into_iter()
            .flatten();
        let drift = items
            .map(|item| item.drift(subject, view))
            .reduce(|sum, drift| sum + drift)
            .unwrap_or_else(|| rephrase.clone().mul_scalar(0.0));
        let Self { cedit, iedit, cloc } = *self;
        // Text alone has no other picture: what is asked counts in full.
        let (told, edit) = match image {
            Some(image) => (
                rephrase.clone().mul_scalar(cedit) + image.clone().mul_scalar(iedit),
                (rephrase + image).div_scalar(2.0),
            ),
            None => (rephrase.clone().mul_scalar(cedit), rephrase),
        };
        Objective {
            total: told + drift.clone().mul_scalar(cloc),
            edit,
            locality: drift,
        }
    }
}
