//! Gradient descent on chosen parameters: the common core of FT-L and FT-V.
//!
//! `spec/editors.md` 3.1. Requests are independent: their parameters stand side by side as row
//! groups of one batch, so a step of many edits is one forward and backward pass, and each
//! request sees exactly the update it would see alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::Tensor;
use debias_core::{Error as CoreError, Preset};
use debias_model::optim::{self, Rule, clip, keep_stopped};
use debias_model::{
    Batch, Change, Delta, Mllm, Parameters, Question, Row, Seen, Site, Stage, View, answer_nll,
    host,
};
use serde::{Deserialize, Serialize};

use crate::editor::{Prepared, Request, for_all, not_empty};
use crate::error::{Error, Result};

/// Values held at once for independent edits, all optimiser copies apart: 256 MiB of f32.
const GROUP_BUDGET: usize = 64 << 20;

/// Whether each request gets a model of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Protocol {
    /// One fine-tuned model per request (VLKEB, MMKE-Bench).
    PerEdit,
    /// One fine-tuned model for the whole run, from the training split (the paper's rows).
    Dataset,
    /// The same from the evaluation requests themselves; labelled as such.
    DatasetEval,
}

/// Settings of the descent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Descent {
    pub protocol: Protocol,
    opt: String,
    lr: Option<f64>,
    wd: f64,
    steps: usize,
    stop_loss: f64,
    clip: f64,
    epochs: usize,
}

/// Settings and their meaning, for the cards.
pub(crate) const SETTINGS: [(&str, &str); 8] = [
    (
        "protocol",
        "per_edit, dataset (one model from the training split) or dataset_eval",
    ),
    ("opt", "adamw, adam, rmsprop or sgd"),
    (
        "lr",
        "learning rate; null takes the published one of the decoder family (OPT 2e-4, LLaMA 1e-4)",
    ),
    ("wd", "decoupled weight decay (adamw)"),
    ("steps", "optimiser steps per request"),
    (
        "stop_loss",
        "stop before a step when the loss (nats per token) is below this; 0 never stops",
    ),
    (
        "clip",
        "largest global gradient norm per request; 0 does not clip",
    ),
    ("epochs", "passes over the set (dataset protocols)"),
];

impl Descent {
    pub fn preset(preset: Preset) -> Self {
        let vlkeb = Self {
            protocol: Protocol::PerEdit,
            opt: "adamw".into(),
            lr: None,
            wd: 0.01,
            steps: 15,
            stop_loss: 0.0,
            clip: 0.0,
            epochs: 1,
        };
        match preset {
            Preset::Project | Preset::RefEasyedit => vlkeb,
            // The MEND repository's fine-tuning baseline, one pass over the training split.
            Preset::Paper => Self {
                protocol: Protocol::Dataset,
                opt: "rmsprop".into(),
                lr: Some(5e-6),
                wd: 0.0,
                steps: 1,
                clip: 100.0,
                ..vlkeb
            },
        }
    }

    /// # Errors
    /// A value that cannot be used, named.
    pub fn check(&self, editor: &'static str) -> Result<()> {
        let refuse = |key: &str, problem: &str| {
            Err(Error::Core(CoreError::Setting {
                key: format!("{editor}.{key}"),
                problem: problem.to_owned(),
            }))
        };
        if self.rule().is_none() {
            return refuse("opt", "must be adamw, adam, rmsprop or sgd");
        }
        if self.lr.is_some_and(|lr| !(lr.is_finite() && lr >= 0.0)) {
            return refuse("lr", "must be a finite number of at least 0");
        }
        if !(self.wd.is_finite() && self.wd >= 0.0) {
            return refuse("wd", "must be a finite number of at least 0");
        }
        if !(self.clip.is_finite() && self.clip >= 0.0) {
            return refuse("clip", "must be a finite number of at least 0");
        }
        Ok(())
    }

    fn rule(&self) -> Option<Rule> {
        Rule::named(&self.opt, self.wd as f32)
    }

    fn lr(&self, model: &Mllm) -> f64 {
        self.lr
            .unwrap_or(model.decoder().outline().fine_tuning_rate)
    }
}

/// Independent edits, or the one change that [`whole_set`] prepared.
pub(crate) fn edit_each(
    editor: &'static str,
    model: &Mllm,
    prepared: &Prepared,
    requests: &[Request],
    sites: &[&Site],
    descent: &Descent,
) -> Result<Vec<Arc<Change>>> {
    not_empty(requests)?;
    if descent.protocol != Protocol::PerEdit {
        let weights = prepared
            .tensors
            .iter()
            .map(|(name, delta)| (name.clone(), Delta::Dense(delta.clone())))
            .collect();
        return Ok(for_all(Change { weights }, requests));
    }
    let size: usize = sites
        .iter()
        .map(|site| site.matrix_shape().iter().product::<usize>())
        .sum();
    let group = (GROUP_BUDGET / size.max(1)).max(1);
    let mut changes = Vec::with_capacity(requests.len());
    for requests in requests.chunks(group) {
        let mut run = Run::new(editor, model, sites, descent, requests.len());
        run.descend(requests, descent.steps)?;
        changes.extend(run.changes().into_iter().map(Arc::new));
    }
    Ok(changes)
}

/// One model for the whole run: `epochs` passes of single-request batches.
pub(crate) fn whole_set(
    editor: &'static str,
    model: &Mllm,
    requests: &mut dyn Iterator<Item = Result<Request>>,
    sites: &[&Site],
    descent: &Descent,
) -> Result<Prepared> {
    let requests = requests.collect::<Result<Vec<_>>>()?;
    not_empty(&requests)?;
    let mut run = Run::new(editor, model, sites, descent, 1);
    for _ in 0..descent.epochs {
        for request in &requests {
            run.descend(std::slice::from_ref(request), descent.steps)?;
        }
    }
    let tensors = run
        .changes()
        .into_iter()
        .flat_map(|change| change.weights)
        .map(|(name, delta)| (name, delta.dense()))
        .collect();
    Ok(Prepared { tensors })
}

/// Parameters on their way down, `[g, rows, columns]` each.
struct Run<'a> {
    editor: &'static str,
    model: &'a Mllm,
    settings: &'a Descent,
    start: Stage,
    base: BTreeMap<String, Tensor<2>>,
    values: BTreeMap<String, Tensor<3>>,
    optimiser: optim::Descent,
}

impl<'a> Run<'a> {
    fn new(
        editor: &'static str,
        model: &'a Mllm,
        sites: &[&Site],
        settings: &'a Descent,
        groups: usize,
    ) -> Self {
        let base: BTreeMap<String, Tensor<2>> = sites
            .iter()
            .filter_map(|site| Some((site.name.clone(), model.value(&site.name)?)))
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
        let rule = settings.rule().unwrap_or(Rule::Sgd);
        Self {
            editor,
            model,
            settings,
            start: sites
                .iter()
                .fold(Stage::Head, |first, site| first.earliest(site.stage)),
            base,
            values,
            optimiser: optim::Descent::new(rule),
        }
    }

    /// Up to `steps` steps on `requests`, one row group each.
    fn descend(&mut self, requests: &[Request], steps: usize) -> Result<()> {
        let (rows, batch) = self.batch(requests)?;
        let mut active = vec![true; requests.len()];
        for _ in 0..steps {
            let (losses, mut gradients) = self.gradients(&rows, &batch)?;
            for ((active, loss), request) in active.iter_mut().zip(losses).zip(requests) {
                if !loss.is_finite() {
                    return Err(Error::Diverged {
                        editor: self.editor,
                        id: request.record.id.clone(),
                    });
                }
                *active &= loss >= self.settings.stop_loss;
            }
            if active.iter().all(|active| !active) {
                break;
            }
            if self.settings.clip > 0.0 {
                clip(&mut gradients, self.settings.clip);
            }
            let lr = self.settings.lr(self.model);
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
        let Some(seen) = Seen::join(requests.iter().map(|request| request.seen.clone())) else {
            return Ok((rows, Batch::text(Vec::new())));
        };
        for (picture, request) in requests.iter().enumerate() {
            let picture = Some(seen.sighting(picture));
            let question = Question::new(picture, &request.prompt, &request.record.y_less);
            rows.extend(
                self.model
                    .rows(&[question])
                    .map_err(|source| Error::Record {
                        id: request.record.id.clone(),
                        source,
                    })?,
            );
        }
        let last = Stage::FeedForward(self.model.decoder().outline().depth.saturating_sub(1));
        let batch = Batch::with_pictures(rows.clone(), seen);
        let batch = self
            .model
            .run(batch, self.start.earliest(last), &View::base());
        Ok((rows, batch))
    }

    /// Token-mean losses per request, and the gradient of their sum.
    fn gradients(
        &self,
        rows: &[Row],
        batch: &Batch,
    ) -> Result<(Vec<f64>, BTreeMap<String, Tensor<3>>)> {
        let leaves: BTreeMap<String, Tensor<3>> = self
            .values
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().autodiff().require_grad()))
            .collect();
        let view = View::replacing(leaves.clone(), true);
        let sums = answer_nll(rows, self.model.answer_logits(batch.clone(), &view));
        let lengths: Vec<f32> = rows.iter().map(|row| row.answer().len() as f32).collect();
        let lengths = host::tensor(lengths, [rows.len()], self.model.device()).autodiff();
        let losses = sums / lengths;
        let mut gradients = losses.clone().sum().backward();
        let found = leaves
            .into_iter()
            .map(|(site, leaf)| match leaf.grad_remove(&mut gradients) {
                Some(gradient) => Ok((site, gradient)),
                None => Err(Error::NoGradient {
                    editor: self.editor,
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

    /// The way come so far, one change per row group.
    fn changes(&self) -> Vec<Change> {
        let groups = self
            .values
            .values()
            .next()
            .map_or(0, |value| value.dims()[0]);
        (0..groups)
            .map(|group| {
                let weights = self
                    .values
                    .iter()
                    .map(|(name, value)| {
                        let value: Tensor<2> = value.clone().narrow(0, group, 1).squeeze_dim(0);
                        (name.clone(), Delta::Dense(value - self.base[name].clone()))
                    })
                    .collect();
                Change { weights }
            })
            .collect()
    }
}
