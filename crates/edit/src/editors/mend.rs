//! MEND: a network that turns the gradient of an edit into a better one.
//!
//! Mitchell et al. 2022, "Fast model editing at scale", section 3; `spec/editors.md` 3.5. The
//! gradient of a linear layer is Σ_t δ_t x_tᵀ; MEND transforms the factors x and δ of every token
//! and never forms the matrix. Defects of the reference are repaired by default and come back by
//! settings: the update descends, every matrix's own rate has its own learning rate, running
//! statistics are kept with the parts.

mod network;
#[cfg(test)]
mod tests;

use debias_core::Preset;
use serde::{Deserialize, Serialize};

use self::network::Network;
use crate::card::{Card, Setting, settings};
use crate::hyper::{Config, Generalise, HyperEditor, Sites, TRAINED};
use crate::training::Schedule;

/// Model editor networks with gradient decomposition.
pub static EDITOR: HyperEditor<Network> = HyperEditor::new(&CARD);

static CARD: Card = Card {
    id: "mend",
    version: 1,
    title: "a trained transform of the gradient's factors",
    summary: "A small network, shared by all matrices of one shape, turns input and output \
              gradient of every token of the edit into pseudo-factors whose outer products are the \
              edit. It is trained so that one such step generalises and leaves the rest alone.",
    paper: "Mitchell et al. 2022 (MEND); Cheng et al. 2023 (multimodal)",
    equation: "W' = W - α_W Σ_t δ̃_t x̃_tᵀ, [x̃; δ̃] = g([x̂; δ̂]), g = two blocks z + max(0, s ⊙ (U V z + b) + t)",
    touches: "weights: two feed-forward matrices in each of `layers`, or the vision side",
    cost: "trained once; per edit one forward and backward pass and the network on the edit's tokens",
    failures: &[
        "edits what the training records are like; another bias or another model needs another training",
        "many requests at once add up: the norm of the update grows with their number",
    ],
    settings: settings![
        Sites::SETTINGS,
        SETTINGS,
        Generalise::SETTINGS,
        TRAINED,
        Schedule::SETTINGS,
    ],
};

/// Settings of the network and its objective.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Own {
    rank: usize,
    norm: bool,
    bound: Option<f64>,
    descent: bool,
    edit_lr: f64,
    lr: f64,
    lr_lr: f64,
    dead_edit_lr: bool,
    #[serde(flatten)]
    objective: Generalise,
}

/// Their meaning, those of the objective apart.
const SETTINGS: &[Setting] = &[
    ("rank", "rows of V, at most the joint width of a matrix"),
    (
        "norm",
        "normalise the factors by running mean and deviation",
    ),
    (
        "bound",
        "largest size of a normalised value; null as published, where a unit that hardly ever fired in training makes an edit thousands of times too large",
    ),
    (
        "descent",
        "subtract the update (the reference adds it and must learn the sign)",
    ),
    ("edit_lr", "the rate α_W of every matrix at the start"),
    ("lr", "Adam's rate for U, V, b, s, t"),
    ("lr_lr", "Adam's rate for the rates α_W"),
    (
        "dead_edit_lr",
        "as in the reference, the rates move with `lr`, because its second optimiser never sees a gradient",
    ),
];

fn preset(preset: Preset) -> Config<Own> {
    let reference = preset == Preset::RefEasyedit;
    Config {
        sites: Sites::published(),
        own: Own {
            rank: 1920,
            norm: true,
            bound: match preset {
                Preset::Project => Some(10.0),
                Preset::Paper | Preset::RefEasyedit => None,
            },
            descent: !reference,
            edit_lr: 1e-4,
            lr: 1e-6,
            lr_lr: 1e-4,
            dead_edit_lr: reference,
            objective: Generalise::PUBLISHED,
        },
        trained: None,
        schedule: Schedule {
            steps: 30_000,
            batch: 1,
            accumulate: 2,
            grad_clip: 100.0,
            val_every: 5_000,
            val_records: 500,
            // The reference never stops early: its stopper is disconnected.
            patience: if reference { 30_000 } else { 20_000 },
        },
    }
}
