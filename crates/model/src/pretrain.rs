//! Training a small model, from nothing or from what another has learnt: next-token likelihood of answers, with the visible facts
//! of the picture as an auxiliary target for the projector.
//!
//! The auxiliary head (as in BLIP-2's first stage, vision and queries learn what is to be seen
//! before the language model can tell them) is dropped at the end. Each step's lessons are cut
//! into a fixed number of pieces whose gradients are added in order, so the weights do not depend
//! on the number of threads.

use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::Tensor;
use debias_core::Picture;

use crate::batch::{Batch, ImageRef, Row};
use crate::change::{Parameters, View};
use crate::error::{Error, Result};
use crate::host;
use crate::likelihood::{answer_nll, weighted_nll};
use crate::loader::Fresh;
use crate::model::Model;
use crate::optim::{Descent, Rule, clip};
use crate::parallel::in_order;
use crate::question::Question;

const AUXILIARY: &str = "auxiliary.weight";

/// A picture and texts about it, or texts alone.
pub struct Lesson {
    /// The picture.
    pub picture: Option<Picture>,
    /// Prompts (template applied) and the answers to learn.
    pub texts: Vec<(String, String)>,
    /// Visible facts as class ids, one per entry of [`Curriculum::label_sizes`].
    pub labels: Vec<u8>,
}

/// A picture and passages about it, or passages alone.
pub struct StatedLesson {
    /// The picture.
    pub picture: Option<Picture>,
    /// The passages.
    pub passages: Vec<Passage>,
}

/// One text in which answers are learnt at several places.
pub struct Passage {
    /// Prompts (template applied) and the answers to learn, each after one blank.
    pub turns: Vec<(String, String)>,
    /// Whether all words are learnt, if less than the answers.
    pub whole: bool,
}

/// Where lessons come from; a pure function of the index.
pub trait Curriculum: Sync {
    /// A lesson with a picture.
    fn pictured(&self, index: u64) -> Lesson;
    /// A lesson without a picture.
    fn told(&self, index: u64) -> Lesson;
    /// Passages, with or without a picture, that state what is to be answered.
    fn stated(&self, index: u64) -> StatedLesson;
    /// Classes of each visible fact.
    fn label_sizes(&self) -> &[usize];
}

/// How long and how fast to train.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Optimiser steps.
    pub steps: usize,
    /// Pieces per step; fixed, so that threads do not change the sums.
    pub pieces: usize,
    /// Pictured lessons per piece.
    pub pictures: usize,
    /// Text-only lessons per piece.
    pub facts: usize,
    /// Lessons on stated facts per piece.
    pub stated: usize,
    /// Peak learning rate of AdamW.
    pub lr: f64,
    /// Steps of linear warm-up; a cosine follows.
    pub warmup: usize,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Weight of the auxiliary loss.
    pub auxiliary: f64,
    /// Only parameters whose names contain one of these are trained; all when there is none.
    pub learns: Vec<String>,
    /// Seed of what is random: the auxiliary head here, initial weights and lessons of the caller.
    pub seed: u64,
}

/// Losses of one step, nats per token (per fact for `auxiliary`).
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Steps done.
    pub step: usize,
    /// Mean negative log-likelihood of answer tokens about pictures.
    pub pictured: f64,
    /// Mean negative log-likelihood of answer tokens of facts.
    pub told: f64,
    /// Mean negative log-likelihood of answer tokens under stated facts.
    pub stated: f64,
    /// Mean cross-entropy of the visible facts.
    pub auxiliary: f64,
}

/// Trains `model`, from the weights that it has, and returns all its tensors by published name.
///
/// `observe` is called after every step; returning `false` stops the training early.
///
/// # Errors
/// A model without sight, a lesson that cannot be tokenised, or a loss that is not finite.
pub fn pretrain(
    model: &Model,
    curriculum: &dyn Curriculum,
    schedule: &Schedule,
    threads: usize,
    mut observe: impl FnMut(Progress) -> bool,
) -> Result<BTreeMap<String, Tensor<2>>> {
    let fresh = Fresh {
        seed: schedule.seed,
    };
    let learns = |name: &str| {
        let parts = &schedule.learns;
        parts.is_empty() || parts.iter().any(|part| name.contains(part.as_str()))
    };
    let (learnt, kept): (Vec<_>, Vec<_>) = model
        .parameters()
        .iter()
        .filter_map(|site| Some((site.name.clone(), model.value(&site.name)?)))
        .partition(|(name, _)| learns(name));
    let learnt = learnt.into_iter();
    let mut values: BTreeMap<String, Tensor<3>> = learnt
        .map(|(name, value)| (name, value.unsqueeze()))
        .collect();
    values.insert(AUXILIARY.into(), auxiliary(model, curriculum, &fresh)?);
    let mut descent = Descent::new(Rule::AdamW {
        weight_decay: schedule.weight_decay,
        beta2: 0.98,
    });
    for step in 0..schedule.steps {
        let pieces = in_order(schedule.pieces, threads, |piece| {
            let trainee = Trainee {
                model,
                values: &values,
                curriculum,
                schedule,
            };
            trainee.piece((step * schedule.pieces + piece) as u64)
        })?;
        let (mut gradients, progress) = combine(pieces, step + 1);
        if !(progress.pictured + progress.told + progress.stated).is_finite() {
            return Err(Error::NotFinite {
                what: format!("the training loss at step {}", step + 1),
            });
        }
        clip(&mut gradients, 1.0);
        let lr = rate(schedule, step);
        for (name, gradient) in gradients {
            if let Some(value) = values.remove(&name) {
                values.insert(name.clone(), descent.step(&name, lr, value, gradient));
            }
        }
        if !observe(progress) {
            break;
        }
    }
    values.remove(AUXILIARY);
    let learnt = values.into_iter();
    let learnt = learnt.map(|(name, value)| (name, value.squeeze_dim(0)));
    Ok(learnt.chain(kept).collect())
}

/// Linear warm-up, then a cosine down to a twentieth of the peak.
fn rate(schedule: &Schedule, step: usize) -> f64 {
    let done = step as f64 + 1.0;
    let warmup = schedule.warmup.max(1) as f64;
    if done < warmup {
        return schedule.lr * done / warmup;
    }
    let rest = (schedule.steps as f64 - warmup).max(1.0);
    let turn = ((done - warmup) / rest).min(1.0) * std::f64::consts::PI;
    schedule.lr * (0.05 + 0.95 * 0.5 * (1.0 + turn.cos()))
}

fn auxiliary(model: &Model, curriculum: &dyn Curriculum, fresh: &Fresh) -> Result<Tensor<3>> {
    let classes = curriculum.label_sizes().iter().sum();
    let side = model.sight()?.image_size();
    let blank = Tensor::zeros([1, 3, side, side], model.device());
    let features = model.sight()?.see(blank, &View::base());
    let width = match model.sight()?.queries(features, &View::base()) {
        Some(queries) => queries.dims()[1] * queries.dims()[2],
        None => 0,
    };
    let values = fresh.values(AUXILIARY, &[classes, width]);
    Ok(host::tensor(values, [1, classes, width], model.device()))
}

type Gradients = BTreeMap<String, Tensor<3>>;

/// Adds the pieces' gradients in order and averages their losses.
fn combine(pieces: Vec<(Gradients, [f64; 4])>, step: usize) -> (Gradients, Progress) {
    let n = pieces.len().max(1) as f64;
    let mut total = Gradients::new();
    let mut losses = [0.0; 4];
    for (gradients, piece) in pieces {
        for (name, gradient) in gradients {
            let gradient = gradient.div_scalar(n);
            let sum = match total.remove(&name) {
                Some(sum) => sum + gradient,
                None => gradient,
            };
            total.insert(name, sum);
        }
        for (loss, piece) in losses.iter_mut().zip(piece) {
            *loss += piece / n;
        }
    }
    let progress = Progress {
        step,
        pictured: losses[0],
        told: losses[1],
        stated: losses[2],
        auxiliary: losses[3],
    };
    (total, progress)
}

struct Trainee<'a> {
    model: &'a Model,
    values: &'a BTreeMap<String, Tensor<3>>,
    curriculum: &'a dyn Curriculum,
    schedule: &'a Schedule,
}

impl Trainee<'_> {
    /// Gradients and losses of piece `index` of the whole training.
    fn piece(&self, index: u64) -> Result<(Gradients, [f64; 4])> {
        let leaves: BTreeMap<String, Tensor<3>> = self
            .values
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().autodiff().require_grad()))
            .collect();
        let view = View::replacing(leaves.clone(), true);
        let (pictured, auxiliary) = self.pictured(index, &view, &leaves[AUXILIARY])?;
        let told = self.told(index, &view)?;
        let (stated, answered) = self.stated(index, &view)?;
        let losses = [&pictured, &told, &answered, &auxiliary].map(|loss| {
            host::values(loss.clone().inner())
                .iter()
                .map(|v| f64::from(*v))
                .sum::<f64>()
        });
        let loss = pictured + told + stated + auxiliary.mul_scalar(self.schedule.auxiliary);
        let mut gradients = loss.backward();
        let gradients = leaves
            .into_iter()
            .filter_map(|(name, leaf)| Some((name, leaf.grad_remove(&mut gradients)?)))
            .collect();
        Ok((gradients, losses))
    }

    fn pictured(
        &self,
        index: u64,
        view: &View,
        head: &Tensor<3>,
    ) -> Result<(Tensor<1>, Tensor<1>)> {
        let n = self.schedule.pictures as u64;
        let lessons: Vec<Lesson> = (0..n)
            .map(|i| self.curriculum.pictured(index * n + i))
            .collect();
        let pictures: Vec<&Picture> = lessons.iter().filter_map(|l| l.picture.as_ref()).collect();
        let queries = self.model.look(&pictures, view)?;
        let auxiliary = self.auxiliary(&lessons, queries.features.clone(), head);
        let rows = self.rows(&lessons)?;
        let batch = Batch::with_vectors(rows.clone(), self.model.project(&queries, view)?);
        Ok((
            token_mean(&rows, self.model.answer_logits(batch, view)),
            auxiliary,
        ))
    }

    fn told(&self, index: u64, view: &View) -> Result<Tensor<1>> {
        let n = self.schedule.facts as u64;
        let lessons: Vec<Lesson> = (0..n)
            .map(|i| self.curriculum.told(index * n + i))
            .collect();
        let rows = self.rows(&lessons)?;
        let batch = Batch::text(rows.clone());
        Ok(token_mean(&rows, self.model.answer_logits(batch, view)))
    }

    /// Gradients' and reported loss of passages; lessons differ in length, so each is a batch.
    fn stated(&self, index: u64, view: &View) -> Result<(Tensor<1>, Tensor<1>)> {
        let n = self.schedule.stated as u64;
        let zero = Tensor::zeros([1], &self.model.device().clone().autodiff());
        let (mut total, mut answers) = (zero.clone(), zero);
        for i in 0..n {
            let lesson = self.curriculum.stated(index * n + i);
            let told = lesson.passages.iter();
            let told = told.map(|passage| Told::new(self.model, passage, lesson.picture.is_some()));
            let told: Vec<Told> = told.filter_map(Result::transpose).collect::<Result<_>>()?;
            let rows: Vec<Row> = told.iter().map(|told| told.row.clone()).collect();
            let batch = match &lesson.picture {
                Some(picture) => {
                    let queries = self.model.look(&[picture], view)?;
                    Batch::with_vectors(rows.clone(), self.model.project(&queries, view)?)
                }
                None => Batch::text(rows.clone()),
            };
            let logits = self.model.answer_logits(batch, view);
            let nll = |weight: &dyn Fn(usize, usize) -> f32| {
                let loss = weighted_nll(&rows, logits.clone(), weight);
                loss.mean().div_scalar(n as f64)
            };
            answers = answers + nll(&|r, i| told[r].answer(i));
            total = total + nll(&|r, i| told[r].answer(i) + told[r].word());
        }
        Ok((total, answers))
    }

    /// Tokenised texts, each answer closed by the end token.
    fn rows(&self, lessons: &[Lesson]) -> Result<Vec<Row>> {
        let end = self.model.text().end_of_text();
        let mut rows = Vec::new();
        for (picture, lesson) in lessons.iter().enumerate() {
            let questions: Vec<Question> = lesson
                .texts
                .iter()
                .map(|(prompt, answer)| {
                    let sighting = ImageRef {
                        index: picture,
                        tiles: 1,
                    };
                    Question::new(lesson.picture.as_ref().map(|_| sighting), prompt, answer)
                })
                .collect();
            for mut row in self.model.rows(&questions)? {
                row.ids.extend(end);
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// Mean cross-entropy of the visible facts, read off all queries at once.
    fn auxiliary(&self, lessons: &[Lesson], queries: Tensor<3>, head: &Tensor<3>) -> Tensor<1> {
        let [n, q, width] = queries.dims();
        let logits = queries
            .reshape([n, q * width])
            .matmul(head.clone().squeeze_dim::<2>(0).transpose());
        let sizes = self.curriculum.label_sizes();
        let mut start = 0;
        let mut total: Option<Tensor<1>> = None;
        for (fact, size) in sizes.iter().enumerate() {
            let rows: Vec<Row> = lessons.iter().map(|l| label_row(l.labels[fact])).collect();
            let logits = logits.clone().narrow(1, start, *size).unsqueeze_dim::<3>(1);
            let loss = answer_nll(&rows, logits).mean();
            total = Some(match total {
                Some(total) => total + loss,
                None => loss,
            });
            start += size;
        }
        let device = self.model.device().clone().autodiff();
        total
            .unwrap_or_else(|| Tensor::zeros([1], &device))
            .div_scalar(sizes.len().max(1) as f64)
    }
}

/// A class label seen as a one-token answer.
fn label_row(label: u8) -> Row {
    Row {
        ids: vec![u32::from(label)],
        image: None,
        answer_start: 0,
    }
}

fn token_mean(rows: &[Row], logits: Tensor<3>) -> Tensor<1> {
    let tokens: usize = rows.iter().map(|row| row.answer().len()).sum();
    answer_nll(rows, logits)
        .sum()
        .div_scalar(tokens.max(1) as f64)
}

/// Weight of the words of a passage against that of its answers.
const WORDS: f32 = 0.5;

/// A passage as one row: all behind its first prompt (or first word) is the row's answer.
struct Told {
    row: Row,
    /// Positions of the answers' tokens in the row.
    spans: Vec<Range<usize>>,
    /// Whether the other words are learnt too.
    whole: bool,
}

impl Told {
    /// `None` for a passage without turns.
    fn new(model: &Model, passage: &Passage, pictured: bool) -> Result<Option<Self>> {
        let picture = pictured.then_some(ImageRef { index: 0, tiles: 1 });
        let mut text = String::new();
        let mut last = None;
        let mut spans = Vec::with_capacity(passage.turns.len());
        for (prompt, answer) in &passage.turns {
            text.push_str(prompt);
            for row in model.rows(&[Question::new(picture, &text, answer)])? {
                spans.push(row.answer_start..row.ids.len());
                last = Some(row);
            }
            text = format!("{text} {answer}");
        }
        let (Some(mut row), Some(first)) = (last, spans.first()) else {
            return Ok(None);
        };
        row.answer_start = first.start;
        if let Some((word, rest)) = text.split_once(' ').filter(|_| passage.whole) {
            for whole in model.rows(&[Question::new(picture, word, rest)])? {
                row.answer_start = whole.answer_start;
            }
        }
        if let (Some(end), Some(span)) = (model.text().end_of_text(), spans.last_mut()) {
            row.ids.push(end);
            span.end += 1;
        }
        Ok(Some(Self {
            row,
            spans,
            whole: passage.whole,
        }))
    }

    /// Weight of token `i` of the row's answer among the answers: they sum to one.
    fn answer(&self, i: usize) -> f32 {
        let tokens: usize = self.spans.iter().map(Range::len).sum();
        let at = self.row.answer_start + i;
        match self.spans.iter().any(|span| span.contains(&at)) {
            true => 1.0 / tokens as f32,
            false => 0.0,
        }
    }

    /// Weight of any token of the row's answer as a word.
    fn word(&self) -> f32 {
        match self.whole {
            true => WORDS / self.row.answer().len() as f32,
            false => 0.0,
        }
    }
}
