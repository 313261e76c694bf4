//! The settings of fine-tuning.

use debias_core::{Error as CoreError, Preset};
use debias_model::Model;
use debias_model::optim::Rule;
use serde::{Deserialize, Serialize};

use crate::card::Setting;
use crate::editor::Learns;
use crate::error::{Error, Result};

/// Whether each request gets a model of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Protocol {
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
    pub(super) protocol: Protocol,
    pub(super) opt: String,
    pub(super) lr: Option<f64>,
    pub(super) wd: f64,
    pub(super) steps: usize,
    pub(super) stop_loss: f64,
    pub(super) clip: f64,
    pub(super) epochs: usize,
}

impl Descent {
    /// The settings with their meaning.
    pub const SETTINGS: &[Setting] = &[
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

    pub(super) fn preset(preset: Preset) -> Self {
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
    pub(super) fn check(&self, editor: &'static str) -> Result<()> {
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

    /// What the protocol learns from the training split.
    pub(super) fn learns(&self) -> Learns {
        match self.protocol {
            Protocol::PerEdit => Learns::Nothing,
            Protocol::Dataset | Protocol::DatasetEval => Learns::Examples,
        }
    }

    pub(super) fn rule(&self) -> Option<Rule> {
        Rule::named(&self.opt, self.wd as f32)
    }

    pub(super) fn lr(&self, model: &Model) -> f64 {
        self.lr.unwrap_or_else(|| published_rate(model))
    }
}

/// Learning rate at which VLKEB's settings fine-tune this family of decoders per edit: a lower one
/// for those with gated feed-forward blocks.
fn published_rate(model: &Model) -> f64 {
    match model.decoder().outline().model_type {
        "gpt2" | "gpt_neo" | "opt" => 2e-4,
        _ => 1e-4,
    }
}
