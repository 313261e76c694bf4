//! The training of an editor's own parts: early stopping on validation, best and last kept, exact
//! resume.
//!
//! The loop of `spec/editors.md` 3.5 with the reference's defects repaired: the best state by
//! validation loss is kept besides the last, patience really stops, running statistics are part of
//! the state, every group of parameters has its own learning rate. Lessons are cut once from the
//! training records and shuffled anew every pass; those of one step are computed side by side and
//! their gradients added in order, so the number of threads changes nothing.

mod state;

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use debias_core::{Record, seed};
use debias_model::optim::clip;
use debias_model::{Workers, host, in_order};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use self::state::State;
use crate::card::Setting;
use crate::editor::{Ctx, Example, Examples};
use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::training_store::Losses;

/// Bytes of prepared lessons that are kept between the passes: 1 GiB.
const LESSON_BUDGET: usize = 1 << 30;

/// Values of trained parameters by name, plain or as leaves of a gradient.
pub(crate) type Values = BTreeMap<String, Tensor<2>>;

/// How long and how fast to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Schedule {
    /// Optimiser steps at most.
    pub steps: usize,
    /// Records per lesson, whose losses are averaged.
    pub batch: usize,
    /// Lessons per optimiser step.
    pub accumulate: usize,
    /// Largest global norm of the gradient; 0 does not clip.
    pub grad_clip: f64,
    /// Steps between validations.
    pub val_every: usize,
    /// Validation records at most.
    pub val_records: usize,
    /// Steps without a better validation after which it stops.
    pub patience: usize,
}

impl Schedule {
    /// The settings with their meaning.
    pub const SETTINGS: &[Setting] = &[
        ("steps", "optimiser steps at most"),
        ("batch", "records per lesson, whose losses are averaged"),
        ("accumulate", "lessons per optimiser step"),
        (
            "grad_clip",
            "largest global norm of the gradient; 0 does not clip",
        ),
        ("val_every", "steps between validations"),
        ("val_records", "validation records at most"),
        (
            "patience",
            "steps without a better validation after which training stops",
        ),
    ];
}

/// The scope of settings that hold for the training of every editor that trains.
pub const SCOPE: &str = "train";

/// The keys of that scope.
pub fn keys() -> Vec<&'static str> {
    Schedule::SETTINGS.iter().map(|(key, _)| *key).collect()
}

/// `settings` with a few short steps that pass two validations, for rehearsals.
pub(crate) fn rehearsed(settings: &Settings) -> Settings {
    settings
        .clone()
        .with("steps", 6)
        .with("batch", 2)
        .with("accumulate", 2)
        .with("val_every", 2)
        .with("val_records", 4)
}

/// What the loop trains.
pub(crate) trait Trainable: Sync {
    /// Some records, as far as the never-edited model can prepare them.
    type TrainingBatch: Send + Sync;

    /// The parameters at the start.
    fn start(&self) -> Values;

    /// Learning rate of one parameter.
    fn rate(&self, parameter: &str) -> f64;

    /// Prepares a lesson.
    ///
    /// # Errors
    /// A record that cannot be tokenised.
    fn lesson(&self, examples: &[Example]) -> Result<Self::TrainingBatch>;

    /// Bytes that a prepared lesson holds.
    fn bytes(&self, lesson: &Self::TrainingBatch) -> usize;

    /// Learns from `lesson` what needs no gradient, before its losses are computed; called once
    /// per training lesson, in order.
    fn observe(&mut self, _lesson: &Self::TrainingBatch) {}

    /// The running statistics that `observe` gathers, as tensors that can be stored.
    fn statistics(&self) -> Values {
        Values::new()
    }

    /// Goes on from stored statistics.
    fn restore(&mut self, _statistics: &Values) {}

    /// Decides what is decided once `values` are trained, such as thresholds, and keeps it with
    /// the statistics. `val` are the validation records.
    ///
    /// # Errors
    /// What the data or the model refuse.
    fn settle(&mut self, _values: &Values, _val: &dyn Examples) -> Result<()> {
        Ok(())
    }

    /// The losses of a lesson under `values`.
    ///
    /// # Errors
    /// What the model refuses.
    fn losses(&self, lesson: &Self::TrainingBatch, values: &Values) -> Result<Objective>;
}

/// What is minimised, with the parts that are reported.
pub(crate) struct Objective {
    /// The whole, `[1]`.
    pub total: Tensor<1>,
    /// What an edit is to do: negative log-likelihood of the target, nats per token, where the editor
    /// does not say otherwise.
    pub edit: Tensor<1>,
    /// What it is to leave alone: divergence on unrelated items, nats per position.
    pub locality: Tensor<1>,
}

impl Objective {
    fn losses(&self, step: usize) -> Losses {
        let value = |tensor: &Tensor<1>| {
            let tensor = if tensor.is_autodiff() {
                tensor.clone().inner()
            } else {
                tensor.clone()
            };
            host::values(tensor).iter().map(|v| f64::from(*v)).sum()
        };
        Losses {
            step,
            total: value(&self.total),
            edit: value(&self.edit),
            locality: value(&self.locality),
        }
    }
}

/// Trains `pupil`, or takes what was trained before under the same identity, and leaves the
/// pupil's statistics as they were with the parameters that are returned: the best by validation.
///
/// # Errors
/// No training record, a validation loss that is not finite, or whatever the model, the data or
/// the store refuse.
pub(crate) fn train<P: Trainable>(
    editor: &'static str,
    pupil: &mut P,
    schedule: &Schedule,
    train: &dyn Examples,
    val: &dyn Examples,
    ctx: &Ctx,
) -> Result<Values> {
    if let Some(parts) = ctx.store.finished()? {
        return state::usable(pupil, &parts);
    }
    if train.records().is_empty() {
        return Err(Error::NothingToLearn { editor });
    }
    let mut state = match ctx.store.interrupted()? {
        Some(parts) => State::resumed(&parts, pupil)?,
        None => State::fresh(pupil),
    };
    let val_limit = schedule.val_records.max(1);
    let mut course = Course {
        editor,
        schedule,
        train: Library::new(train, schedule.batch, usize::MAX, ctx.seed),
        val: Library::new(val, schedule.batch, val_limit, ctx.seed),
        ctx,
    };
    course.run(pupil, &mut state)?;
    let values = state::usable(pupil, &state.best())?;
    pupil.settle(&values, val)?;
    let best = state::stored(&values, &pupil.statistics());
    ctx.store.finish(&best, &state.last(), &state.history)?;
    Ok(values)
}

/// One training on its way.
struct Course<'a, L> {
    editor: &'static str,
    schedule: &'a Schedule,
    train: Library<'a, L>,
    val: Library<'a, L>,
    ctx: &'a Ctx<'a>,
}

impl<L: Send + Sync> Course<'_, L> {
    fn run<P: Trainable<TrainingBatch = L>>(
        &mut self,
        pupil: &mut P,
        state: &mut State,
    ) -> Result<()> {
        let Schedule {
            steps,
            val_every,
            patience,
            ..
        } = *self.schedule;
        if state.step == 0 {
            self.validate(pupil, state)?;
        }
        state.history.end = "all steps done".to_owned();
        while state.step < steps {
            self.step(pupil, state)?;
            let done = state.step;
            if done == steps || done.is_multiple_of(val_every.max(1)) {
                self.validate(pupil, state)?;
                if done - state.history.best >= patience {
                    state.history.end = format!(
                        "no better validation for {} steps",
                        done - state.history.best
                    );
                    break;
                }
                self.ctx.store.keep(&state.resumable(), &state.history)?;
            }
        }
        Ok(())
    }

    /// One optimiser step over `accumulate` lessons.
    fn step<P: Trainable<TrainingBatch = L>>(
        &mut self,
        pupil: &mut P,
        state: &mut State,
    ) -> Result<()> {
        let count = self.schedule.accumulate.max(1);
        let wanted: Vec<usize> = (0..count)
            .map(|i| self.train.at(state.step * count + i))
            .collect();
        self.train.open(pupil, &wanted, self.ctx.store.workers())?;
        for at in &wanted {
            pupil.observe(self.train.get(*at));
        }
        let (library, watched) = (&self.train, &*pupil);
        let values = &state.values;
        let pieces = in_order(count, self.ctx.store.workers(), |piece| {
            gradients(watched, library.get(wanted[piece]), values)
        })?;
        let mut losses = Losses {
            step: state.step + 1,
            ..Losses::default()
        };
        let mut total: BTreeMap<String, Tensor<3>> = BTreeMap::new();
        let n = count as f64;
        for (piece, gradients) in pieces {
            losses.total += piece.total / n;
            losses.edit += piece.edit / n;
            losses.locality += piece.locality / n;
            // A lesson whose gradient is not finite teaches nothing.
            for (name, gradient) in gradients.into_iter().flatten() {
                let gradient = gradient.div_scalar(n);
                let sum = match total.remove(&name) {
                    Some(sum) => sum + gradient,
                    None => gradient,
                };
                total.insert(name, sum);
            }
        }
        if self.schedule.grad_clip > 0.0 {
            clip(&mut total, self.schedule.grad_clip);
        }
        state.descend(total, |name| pupil.rate(name));
        state.statistics = pupil.statistics();
        state.step += 1;
        state.history.train.push(losses);
        self.train.tidy();
        self.ctx.store.step(&losses, self.schedule.steps)
    }

    /// Mean losses over the validation records; the state is kept when they are the best so far.
    fn validate<P: Trainable<TrainingBatch = L>>(
        &mut self,
        pupil: &P,
        state: &mut State,
    ) -> Result<()> {
        let mut mean = Losses {
            step: state.step,
            ..Losses::default()
        };
        let records = self.val.records() as f64;
        for from in (0..self.val.len()).step_by(LESSONS_AT_ONCE) {
            let wanted: Vec<usize> = (from..(from + LESSONS_AT_ONCE).min(self.val.len())).collect();
            self.val.open(pupil, &wanted, self.ctx.store.workers())?;
            let (library, values) = (&self.val, &state.values);
            let found = in_order(wanted.len(), self.ctx.store.workers(), |at| {
                let objective = pupil.losses(library.get(wanted[at]), values)?;
                Ok::<_, Error>(objective.losses(0))
            })?;
            for (at, losses) in wanted.iter().zip(found) {
                let share = self.val.size(*at) as f64 / records;
                mean.total += losses.total * share;
                mean.edit += losses.edit * share;
                mean.locality += losses.locality * share;
            }
            self.val.tidy();
        }
        if !mean.total.is_finite() {
            return Err(Error::Diverged {
                editor: self.editor,
                id: format!("validation at step {}", state.step),
            });
        }
        // Without validation records the last state is the best known.
        state.judge(mean, self.val.len() == 0);
        Ok(())
    }
}

/// Validation lessons that are prepared together.
const LESSONS_AT_ONCE: usize = 8;

/// The gradients by parameter; none when one of them is not finite.
type Gradients = Option<BTreeMap<String, Tensor<3>>>;

fn gradients<P: Trainable>(
    pupil: &P,
    lesson: &P::TrainingBatch,
    values: &Values,
) -> Result<(Losses, Gradients)> {
    let leaves: Values = values
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().autodiff().require_grad()))
        .collect();
    let objective = pupil.losses(lesson, &leaves)?;
    let losses = objective.losses(0);
    let mut found = objective.total.backward();
    let found: BTreeMap<String, Tensor<3>> = leaves
        .into_iter()
        .filter_map(|(name, leaf)| {
            let gradient = leaf.grad_remove(&mut found)?;
            Some((name, gradient.unsqueeze::<3>()))
        })
        .collect();
    let finite = found.values().all(|gradient| {
        let sum = host::values(gradient.clone().abs().sum());
        sum.iter().all(|value| value.is_finite())
    });
    Ok((losses, finite.then_some(found)))
}

/// Lessons cut from the records of a split, prepared when first asked for.
struct Library<'a, L> {
    examples: &'a dyn Examples,
    /// Record numbers of each lesson.
    cuts: Vec<Vec<usize>>,
    prepared: Vec<Option<L>>,
    bytes: Vec<usize>,
    seed: u64,
}

impl<'a, L: Send + Sync> Library<'a, L> {
    /// Cuts at most `limit` records, in a seeded order, into lessons of `batch`.
    fn new(examples: &'a dyn Examples, batch: usize, limit: usize, seed: u64) -> Self {
        let records: &[Record] = examples.records();
        let mut order: Vec<usize> = (0..records.len()).collect();
        order.shuffle(&mut seed::stream(seed, &["training", "lessons"]));
        order.truncate(limit);
        let cuts: Vec<Vec<usize>> = order.chunks(batch.max(1)).map(<[usize]>::to_vec).collect();
        Self {
            prepared: cuts.iter().map(|_| None).collect(),
            bytes: vec![0; cuts.len()],
            examples,
            cuts,
            seed,
        }
    }

    fn len(&self) -> usize {
        self.cuts.len()
    }

    fn records(&self) -> usize {
        self.cuts.iter().map(Vec::len).sum()
    }

    /// Records of lesson `at`.
    fn size(&self, at: usize) -> usize {
        self.cuts[at].len()
    }

    /// The lesson that is the `turn`-th to be learned: every pass in an order of its own.
    fn at(&self, turn: usize) -> usize {
        let (pass, place) = (turn / self.len(), turn % self.len());
        let mut order: Vec<usize> = (0..self.len()).collect();
        let parts = ["training", "pass", &pass.to_string()];
        order.shuffle(&mut seed::stream(self.seed, &parts));
        order[place]
    }

    /// Prepares the lessons `wanted` that are not there.
    fn open<P: Trainable<TrainingBatch = L>>(
        &mut self,
        pupil: &P,
        wanted: &[usize],
        workers: Workers,
    ) -> Result<()> {
        let missing: Vec<usize> = wanted
            .iter()
            .copied()
            .filter(|at| self.prepared[*at].is_none())
            .collect();
        let (examples, cuts) = (self.examples, &self.cuts);
        let fresh = in_order(missing.len(), workers, |i| {
            let records = cuts[missing[i]].iter();
            let examples: Vec<Example> = records
                .map(|record| examples.example(*record))
                .collect::<Result<_>>()?;
            pupil.lesson(&examples)
        })?;
        for (at, lesson) in missing.into_iter().zip(fresh) {
            self.bytes[at] = pupil.bytes(&lesson);
            self.prepared[at] = Some(lesson);
        }
        Ok(())
    }

    /// A lesson that `open` has prepared.
    fn get(&self, at: usize) -> &L {
        self.prepared[at]
            .as_ref()
            .expect("open() was called with this lesson")
    }

    /// Forgets prepared lessons while they are more than the budget.
    fn tidy(&mut self) {
        let mut held: usize = self.bytes.iter().sum();
        for (lesson, bytes) in self.prepared.iter_mut().zip(&mut self.bytes) {
            if held <= LESSON_BUDGET {
                break;
            }
            held -= std::mem::take(bytes);
            *lesson = None;
        }
    }
}
