//! Fine-tuning: gradient descent on chosen parameters until the edit target is likely. What FT-L and
//! FT-V choose is all in which they differ.
//!
//! `spec/editors.md` 3.1. Requests are independent: their parameters stand side by side as row
//! groups of one batch, so a step of many edits is one forward and backward pass, and each
//! request sees exactly the update it would see alone.

mod descent;

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::Tensor;
use debias_core::Preset;
use debias_model::optim::{self, Rule, clip, keep_stopped};
use debias_model::{
    Batch, Change, Delta, ImageFeatures, Model, Parameter, Parameters, Question, Row, Side, Stage,
    View, answer_nll, host,
};

pub(crate) use self::descent::Descent;
use self::descent::Protocol;
use crate::card::Card;
use crate::edit::Edit;
use crate::editor::{
    Claims, Ctx, Editor, Examples, Learns, Lessons, Prepared, Request, check_requests, for_all,
};
use crate::error::{Error, Result};
use crate::settings::Settings;

/// Values held at once for independent edits, all optimiser copies apart: 256 MiB of f32.
const GROUP_BUDGET: usize = 64 << 20;

/// Copies of its parameters in f32 that one edit takes: their values before and after a step, the
/// gradient and two moments; the delta and the sum with the base that a pass looks through.
const COPIES: u64 = 7;

/// An editor that fine-tunes the parameters it chooses.
#[derive(Clone, Copy)]
pub(crate) struct FineTune {
    /// Its card.
    pub card: &'static Card,
    /// The side of the model that every choice is on.
    pub side: Side,
    /// The settings of the choice under a preset; those of the [`Descent`] stand beside them.
    pub choice: fn(Preset) -> Settings,
    /// The parameters that settings choose.
    pub choose: for<'m> fn(&'m Model, &Settings) -> Result<Vec<&'m Parameter>>,
}

impl FineTune {
    fn descent(&self, settings: &Settings) -> Result<Descent> {
        let descent: Descent = settings.config(self.card.id)?;
        descent.check(self.card.id)?;
        Ok(descent)
    }
}

impl Editor for FineTune {
    fn card(&self) -> &'static Card {
        self.card
    }

    fn defaults(&self, preset: Preset) -> Settings {
        (self.choice)(preset).and(Settings::of(&Descent::preset(preset)))
    }

    fn learns(&self, settings: &Settings) -> Result<Learns> {
        Ok(self.descent(settings)?.learns())
    }

    fn claims(&self, _settings: &Settings) -> Result<Claims> {
        Ok(Claims {
            side: Some(self.side),
            ..Claims::default()
        })
    }

    fn identity(&self, settings: &Settings) -> Option<Settings> {
        Some(settings.clone().with("steps", 0))
    }

    fn check(&self, model: &Model, settings: &Settings) -> Result<()> {
        self.descent(settings)?;
        (self.choose)(model, settings).map(drop)
    }

    fn prepare<'m>(
        &self,
        model: &'m Model,
        lessons: &Lessons,
        ctx: &Ctx,
    ) -> Result<Box<dyn Prepared + 'm>> {
        let descent = self.descent(ctx.settings)?;
        let sites = (self.choose)(model, ctx.settings)?;
        FineTuning::prepare(self.card.id, model, sites, descent, lessons)
    }
}

/// Fine-tuning bound to a model and the parameters it may move.
struct FineTuning<'m> {
    editor: &'static str,
    model: &'m Model,
    sites: Vec<&'m Parameter>,
    descent: Descent,
    /// The one change of the whole-set protocols.
    whole: Option<Change>,
}

impl<'m> FineTuning<'m> {
    /// Fine-tunes on the whole set where the protocol says so.
    ///
    /// # Errors
    /// A loss that is not finite, a parameter without gradient, or an unreadable picture.
    fn prepare(
        editor: &'static str,
        model: &'m Model,
        sites: Vec<&'m Parameter>,
        descent: Descent,
        lessons: &Lessons,
    ) -> Result<Box<dyn Prepared + 'm>> {
        let mut tuning = Self {
            editor,
            model,
            sites,
            descent,
            whole: None,
        };
        tuning.whole = match tuning.descent.protocol {
            Protocol::PerEdit => None,
            Protocol::Dataset => Some(tuning.whole_set(lessons.train)?),
            Protocol::DatasetEval => Some(tuning.whole_set(lessons.eval)?),
        };
        Ok(Box::new(tuning))
    }

    /// One model for the whole run: `epochs` passes of single-request batches.
    fn whole_set(&self, examples: &dyn Examples) -> Result<Change> {
        let count = examples.records().len();
        if count == 0 {
            return Err(Error::NothingToLearn {
                editor: self.editor,
            });
        }
        let mut run = self.run(1, &Change::default());
        for _ in 0..self.descent.epochs {
            for at in 0..count {
                run.descend(&[examples.request(at)?], Loss::Each)?;
            }
        }
        Ok(run.changes().pop().unwrap_or_default())
    }

    /// Values of the parameters that an edit moves.
    fn size(&self) -> usize {
        let sizes = self.sites.iter().map(|site| site.matrix_shape());
        sizes.map(|shape| shape.iter().product::<usize>()).sum()
    }

    fn run(&self, groups: usize, start: &Change) -> Run<'_> {
        Run::new(self, groups, start)
    }
}

impl Prepared for FineTuning<'_> {
    fn edit_each(&self, requests: &[Request], start: &Change) -> Result<Vec<Arc<Edit>>> {
        check_requests(self.model, requests)?;
        if let Some(change) = &self.whole {
            // It is in place from the first request on.
            let more = if start.is_identity() {
                change.clone()
            } else {
                Change::default()
            };
            return Ok(for_all(more, requests));
        }
        let group = (GROUP_BUDGET / self.size().max(1)).max(1);
        let mut edits = Vec::with_capacity(requests.len());
        for requests in requests.chunks(group) {
            let mut run = self.run(requests.len(), start);
            run.descend(requests, Loss::Each)?;
            let changes = run.changes().into_iter();
            edits.extend(changes.map(|change| Arc::new(Edit::Weights(change))));
        }
        Ok(edits)
    }

    fn footprint(&self) -> u64 {
        COPIES * (self.size() * size_of::<f32>()) as u64
    }

    /// One loop over all requests, their losses averaged (`spec/editors.md` section 5).
    fn edit_jointly(&self, requests: &[Request]) -> Result<Edit> {
        check_requests(self.model, requests)?;
        if let Some(change) = &self.whole {
            return Ok(Edit::Weights(change.clone()));
        }
        let mut run = self.run(1, &Change::default());
        run.descend(requests, Loss::Mean)?;
        Ok(Edit::Weights(run.changes().pop().unwrap_or_default()))
    }
}

/// How the losses of several requests become one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// Their sum: one row group per request, each sees its own.
    Each,
    /// Their mean, for one group that all requests share.
    Mean,
}

/// Parameters on their way down, `[g, rows, columns]` each.
struct Run<'a> {
    tuning: &'a FineTuning<'a>,
    start: Stage,
    base: BTreeMap<String, Tensor<2>>,
    values: BTreeMap<String, Tensor<3>>,
    /// Groups that took a step.
    moved: Vec<bool>,
    optimiser: optim::Descent,
}

impl<'a> Run<'a> {
    fn new(tuning: &'a FineTuning<'a>, groups: usize, start: &Change) -> Self {
        let base: BTreeMap<String, Tensor<2>> = tuning
            .sites
            .iter()
            .filter_map(|site| {
                let value = tuning.model.value(&site.name)?;
                let value = match start.weights.get(&site.name) {
                    Some(delta) => value + delta.dense(),
                    None => value,
                };
                Some((site.name.clone(), value))
            })
            .collect();
        let values = base
            .iter()
            .map(|(name, value)| {
                (
                    name.clone(),
                    value.clone().unsqueeze::<3>().repeat_dim(0, groups),
                )
            })
            .collect();
        let rule = tuning.descent.rule().unwrap_or(Rule::Sgd);
        Self {
            start: tuning
                .sites
                .iter()
                .fold(Stage::Head, |first, site| first.earliest(site.stage)),
            tuning,
            base,
            values,
            moved: vec![false; groups],
            optimiser: optim::Descent::new(rule),
        }
    }

    /// Up to the chosen number of steps on `requests`, which have one row group each or share one.
    fn descend(&mut self, requests: &[Request], loss: Loss) -> Result<()> {
        let descent = &self.tuning.descent;
        let lr = descent.lr(self.tuning.model);
        let (rows, batch) = self.batch(requests)?;
        let groups = match loss {
            Loss::Each => requests.len(),
            Loss::Mean => 1,
        };
        let mut active = vec![true; groups];
        for _ in 0..descent.steps {
            let (losses, mut gradients) = self.gradients(&rows, &batch, loss)?;
            if let Some(bad) = losses.iter().position(|loss| !loss.is_finite()) {
                return Err(Error::Diverged {
                    editor: self.tuning.editor,
                    id: requests[bad].record.id.clone(),
                });
            }
            let of_group = losses.chunks(requests.len() / groups);
            for (active, losses) in active.iter_mut().zip(of_group) {
                let mean = losses.iter().sum::<f64>() / losses.len() as f64;
                *active &= mean >= descent.stop_loss;
            }
            if active.iter().all(|active| !active) {
                break;
            }
            for (moved, active) in self.moved.iter_mut().zip(&active) {
                *moved |= active;
            }
            if descent.clip > 0.0 {
                clip(&mut gradients, descent.clip);
            }
            for (name, gradient) in gradients {
                if let Some(old) = self.values.remove(&name) {
                    let new = self.optimiser.step(&name, lr, old.clone(), gradient);
                    self.values.insert(name, keep_stopped(old, new, &active));
                }
            }
        }
        Ok(())
    }

    /// The target rows, carried to the first edited stage through the base model.
    fn batch(&self, requests: &[Request]) -> Result<(Vec<Row>, Batch)> {
        let mut rows = Vec::with_capacity(requests.len());
        let images = requests.iter().filter_map(|request| request.image.clone());
        let seen = ImageFeatures::join(images);
        for (picture, request) in requests.iter().enumerate() {
            let picture = seen.as_ref().map(|seen| seen.image_ref(picture));
            let question = Question::new(picture, &request.prompt, &request.record.y_less);
            rows.extend(
                self.tuning
                    .model
                    .rows(&[question])
                    .map_err(|source| request.refused(source))?,
            );
        }
        let model = self.tuning.model;
        let last = Stage::FeedForward(model.decoder().outline().depth.saturating_sub(1));
        let batch = Batch::over(rows.clone(), seen);
        let batch = model.run(batch, self.start.earliest(last), &model.base());
        Ok((rows, batch))
    }

    /// Token-mean losses per request, and the gradient of their sum or mean.
    fn gradients(
        &self,
        rows: &[Row],
        batch: &Batch,
        loss: Loss,
    ) -> Result<(Vec<f64>, BTreeMap<String, Tensor<3>>)> {
        let leaves: BTreeMap<String, Tensor<3>> = self
            .values
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().autodiff().require_grad()))
            .collect();
        let view = View::replacing(leaves.clone(), true);
        let sums = answer_nll(rows, self.tuning.model.answer_logits(batch.clone(), &view));
        let lengths: Vec<f32> = rows.iter().map(|row| row.answer().len() as f32).collect();
        let lengths = host::tensor(lengths, [rows.len()], self.tuning.model.device()).autodiff();
        let losses = sums / lengths;
        let objective = match loss {
            Loss::Each => losses.clone().sum(),
            Loss::Mean => losses.clone().mean(),
        };
        let mut gradients = objective.backward();
        let found = leaves
            .into_iter()
            .map(|(site, leaf)| match leaf.grad_remove(&mut gradients) {
                Some(gradient) => Ok((site, gradient)),
                None => Err(Error::NoGradient {
                    editor: self.tuning.editor,
                    site,
                }),
            })
            .collect::<Result<_>>()?;
        let losses = host::values(losses.inner())
            .into_iter()
            .map(f64::from)
            .collect();
        Ok((losses, found))
    }

    /// The way come so far, one change per row group; the identity where no step was taken.
    fn changes(&self) -> Vec<Change> {
        let way = |(group, moved): (usize, &bool)| {
            if *moved {
                self.change(group)
            } else {
                Change::default()
            }
        };
        self.moved.iter().enumerate().map(way).collect()
    }

    fn change(&self, group: usize) -> Change {
        let values = self.values.iter();
        let weights = values
            .map(|(name, value)| {
                let value: Tensor<2> = value.clone().narrow(0, group, 1).squeeze_dim(0);
                (name.clone(), Delta::Dense(value - self.base[name].clone()))
            })
            .collect();
        Change { weights }
    }
}
