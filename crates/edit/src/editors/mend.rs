//! MEND: a network that turns the gradient of an edit into a better one.
//!
//! Mitchell et al. 2022, "Fast model editing at scale", section 3; `spec/editors.md` 3.5. The
//! gradient of a linear layer is Σ_t δ_t x_tᵀ; MEND transforms the factors x and δ of every token
//! and never forms the matrix. Defects of the reference are repaired by default and come back by
//! settings: the update descends, every matrix's own rate has its own learning rate, running
//! statistics are kept with the parts.

mod network;
mod statistics;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use debias_core::Preset;
use debias_model::{Change, Model};
use serde::{Deserialize, Serialize};

use self::network::Network;
use crate::card::Card;
use crate::edit::Edit;
use crate::editor::{
    Claims, Ctx, Editor, GradientProbe, Learns, Lessons, Prepared, Request, check_requests,
};
use crate::error::Result;
use crate::hyper::{HyperNetwork, Learner, SITE_SETTINGS, Sites, Weights, changes};
use crate::settings::Settings;
use crate::training::{SETTINGS, Schedule, Values, rehearsed, train};

/// Model editor networks with gradient decomposition.
pub struct Mend;

const ID: &str = "mend";

static CARD: Card = Card {
    id: ID,
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
    settings: &[
        SITE_SETTINGS[0],
        SITE_SETTINGS[1],
        SITE_SETTINGS[2],
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
        ("cedit", "weight of the rephrased prompt's loss"),
        ("iedit", "weight of the rephrased picture's loss"),
        ("cloc", "weight of both divergences"),
        (
            "trained",
            "file of parts trained before, in place of training; null trains",
        ),
        SETTINGS[0],
        SETTINGS[1],
        SETTINGS[2],
        SETTINGS[3],
        SETTINGS[4],
        SETTINGS[5],
        SETTINGS[6],
    ],
};

/// Settings of MEND.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Config {
    #[serde(flatten)]
    sites: Sites,
    rank: usize,
    norm: bool,
    bound: Option<f64>,
    descent: bool,
    edit_lr: f64,
    lr: f64,
    lr_lr: f64,
    dead_edit_lr: bool,
    #[serde(flatten)]
    weights: Weights,
    trained: Option<PathBuf>,
    #[serde(flatten)]
    schedule: Schedule,
}

impl Config {
    fn preset(preset: Preset) -> Self {
        let reference = preset == Preset::RefEasyedit;
        Self {
            sites: Sites::published(),
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
            weights: Weights {
                cedit: 0.1,
                iedit: 0.1,
                cloc: 1.0,
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
}

impl Editor for Mend {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn defaults(&self, preset: Preset) -> Settings {
        Settings::of(&Config::preset(preset))
    }

    fn inputs(&self, settings: &Settings) -> Result<Vec<PathBuf>> {
        Ok(settings.config::<Config>(ID)?.trained.into_iter().collect())
    }

    fn learns(&self, _settings: &Settings) -> Learns {
        Learns::Parts
    }

    fn claims(&self, settings: &Settings) -> Claims {
        let config = settings.config::<Config>(ID);
        Claims {
            random: "V at the start, and the order of the training records",
            side: config.ok().and_then(|config| config.sites.claimed()),
            ..Claims::default()
        }
    }

    fn identity(&self, settings: &Settings) -> Option<Settings> {
        Some(settings.clone().with("edit_lr", 0).with("steps", 0))
    }

    fn rehearsal(&self, settings: &Settings) -> Settings {
        rehearsed(settings)
    }

    fn check(&self, model: &Model, settings: &Settings) -> Result<()> {
        let config: Config = settings.config(ID)?;
        config.sites.of(ID, model).map(drop)
    }

    fn prepare<'m>(
        &self,
        model: &'m Model,
        lessons: &Lessons,
        ctx: &Ctx,
    ) -> Result<Box<dyn Prepared + 'm>> {
        let config: Config = ctx.settings.config(ID)?;
        let sites = config.sites.of(ID, model)?;
        let mut learner = Learner {
            editor: ID,
            model,
            network: Network::new(&config, &sites, ctx.seed, model.device()),
            sites,
            weights: config.weights,
        };
        let (train_on, val) = (lessons.train, lessons.val);
        let values = train(ID, &mut learner, &config.schedule, train_on, val, ctx)?;
        Ok(Box::new(Trained { learner, values }))
    }
}

/// A trained hyper-network.
struct Trained<'m> {
    learner: Learner<'m, Network>,
    values: Values,
}

impl Prepared for Trained<'_> {
    fn edit_each(&self, requests: &[Request], start: &Change) -> Result<Vec<Arc<Edit>>> {
        check_requests(self.learner.model, requests)?;
        let requests: Vec<&Request> = requests.iter().collect();
        let gathered = self.learner.gather(&requests, start)?;
        let sides = self.learner.network.propose(&self.values, &gathered, &());
        let changes = changes(&sides, requests.len()).into_iter();
        Ok(changes
            .map(|change| Arc::new(Edit::Weights(change)))
            .collect())
    }

    fn gradient_probe(&self, request: &Request) -> Result<Option<GradientProbe>> {
        let gathered = self.learner.gather(&[request], &Change::default())?;
        let (network, values) = self.learner.network.unlearned();
        let sides = network.propose(&values, &gathered, &());
        Ok(Some(GradientProbe {
            gradient: changes(&sides, 1).pop().unwrap_or_default(),
            ranks: gathered.ranks(0),
        }))
    }
}
