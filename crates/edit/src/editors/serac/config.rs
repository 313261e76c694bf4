//! The settings of SERAC.

use std::path::PathBuf;

use debias_core::Preset;
use debias_model::{Encoder, open_folder};
use serde::{Deserialize, Serialize};

use crate::card::Setting;
use crate::error::Result;
use crate::memory::scope::Mode;
use crate::memory::{Align, Mix, ScopeText, setting};
use crate::training::Schedule;

/// The settings of [`Config`] without its schedule.
pub(super) const SETTINGS: &[Setting] = &[
    (
        "classifier",
        "folder of an encoder (BERT, DistilBERT) that reads scopes; null takes the model's own input embeddings under a trained linear layer",
    ),
    (
        "mode",
        "embedding (squared distance of two vectors: the first token's) or cross (a classifier of two classes reads both texts)",
    ),
    (
        "frozen",
        "train a linear layer on top of the classifier's sentence vectors in place of its weights",
    ),
    ("scale", "factor of the squared distance"),
    ("mix", "soft, or hard: the counterfactual where s > 1/2"),
    (
        "align",
        "suffix: mix where both sequences end with the same tokens; right: mix as many last positions as there are (the reference)",
    ),
    (
        "scope_text",
        "prompt, or prompt+answer (the reference), by which scope depends on the candidate",
    ),
    (
        "image_gate",
        "also compare pictures, by a threshold tuned on the training records",
    ),
    (
        "counterfactual",
        "self: the language model with a last layer of its own",
    ),
    (
        "training",
        "supervised: both parts apart (Mitchell et al.); unsupervised: soft mixing end to end (the multimodal reference)",
    ),
    (
        "mloc",
        "whether image-locality items are among what is to be left alone (the reference leaves them out)",
    ),
    (
        "hard",
        "share of the weight that the nearest out-of-scope pairs get (supervised)",
    ),
    (
        "calibrate",
        "fit a factor of all squared distances to the validation records after training",
    ),
    ("lr", "Adam's rate for the counterfactual model"),
    (
        "scope_lr",
        "Adam's rate for the classifier; null takes `lr`",
    ),
    ("cedit", "weight of the rephrased prompt's loss"),
    ("iedit", "weight of the rephrased picture's loss"),
    (
        "cloc",
        "weight of the divergence from the base model, or of the classifier's loss (supervised)",
    ),
];

/// How the two parts are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Training {
    /// Each by itself, the right entry given.
    Supervised,
    /// Together, through the soft mix.
    Unsupervised,
}

/// Which model answers what is in scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Counterfactual {
    /// The language model with a last layer of its own.
    #[serde(rename = "self")]
    Itself,
}

/// Settings of SERAC.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Config {
    pub(super) classifier: Option<PathBuf>,
    pub(super) mode: Mode,
    pub(super) frozen: bool,
    pub(super) scale: f64,
    pub(super) mix: Mix,
    pub(super) align: Align,
    pub(super) scope_text: ScopeText,
    pub(super) image_gate: bool,
    pub(super) counterfactual: Counterfactual,
    pub(super) training: Training,
    pub(super) mloc: bool,
    pub(super) hard: f64,
    pub(super) calibrate: bool,
    pub(super) lr: f64,
    pub(super) scope_lr: Option<f64>,
    pub(super) cedit: f64,
    pub(super) iedit: f64,
    pub(super) cloc: f64,
    pub(super) trained: Option<PathBuf>,
    #[serde(flatten)]
    pub(super) schedule: Schedule,
}

impl Config {
    /// All settings under `preset`.
    pub(super) fn preset(preset: Preset) -> Self {
        let published = Self {
            classifier: None,
            mode: Mode::Embedding,
            frozen: false,
            scale: 1.0,
            mix: Mix::Soft,
            align: Align::Suffix,
            scope_text: ScopeText::Prompt,
            image_gate: false,
            counterfactual: Counterfactual::Itself,
            training: Training::Unsupervised,
            mloc: false,
            hard: 0.0,
            calibrate: false,
            lr: 1e-5,
            scope_lr: None,
            cedit: 0.1,
            iedit: 0.1,
            cloc: 1.0,
            trained: None,
            schedule: Schedule {
                steps: 50_000,
                batch: 1,
                accumulate: 1,
                grad_clip: 100.0,
                val_every: 5_000,
                val_records: 1_000,
                patience: 50_000,
            },
        };
        match preset {
            Preset::Paper => published,
            Preset::RefEasyedit => Self {
                align: Align::Right,
                scope_text: ScopeText::PromptAnswer,
                ..published
            },
            // The two parts apart see every pair of a batch instead of one question per step.
            Preset::Project => Self {
                image_gate: true,
                training: Training::Supervised,
                hard: 0.5,
                calibrate: true,
                schedule: Schedule {
                    batch: 10,
                    patience: 20_000,
                    ..published.schedule
                },
                ..published
            },
        }
    }

    /// # Errors
    /// A value that cannot be used, named.
    pub(super) fn check(&self) -> Result<()> {
        let numbers = [
            ("lr", self.lr),
            ("scope_lr", self.scope_lr.unwrap_or(0.0)),
            ("cedit", self.cedit),
            ("iedit", self.iedit),
            ("cloc", self.cloc),
        ];
        for (key, value) in numbers {
            if !(value.is_finite() && value >= 0.0) {
                return Err(setting(key, "must be a finite number of at least 0".into()));
            }
        }
        if !(self.scale.is_finite() && self.scale > 0.0) {
            return Err(setting("scale", "must be a finite number above 0".into()));
        }
        if !(0.0..=1.0).contains(&self.hard) {
            return Err(setting("hard", "must be a share from 0 to 1".into()));
        }
        let Some(folder) = &self.classifier else {
            return match self.mode {
                Mode::Embedding => Ok(()),
                Mode::Cross => Err(setting(
                    "mode",
                    "cross needs a classifier of two classes; name its folder in serac.classifier"
                        .into(),
                )),
            };
        };
        match Encoder::knows(&open_folder(folder)?)? {
            true => Ok(()),
            false => Err(setting(
                "classifier",
                format!(
                    "{} holds no encoder; give a folder of a BERT or DistilBERT model",
                    folder.display()
                ),
            )),
        }
    }
}
