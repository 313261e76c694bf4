//! MEND: a network that turns the gradient of an edit into a better one.
//!
//! Mitchell et al. 2022, "Fast model editing at scale", section 3; `spec/editors.md` 3.5. The
//! gradient of a linear layer is Σ_t δ_t x_tᵀ; MEND transforms the factors x and δ of every token
//! and never forms the matrix. Defects of the reference are repaired by default and come back by
//! settings: the update descends, every matrix's own rate has its own learning rate, running
//! statistics are kept with the parts.

#[cfg(test)]
mod tests;

use debias_core::Preset;
use debias_model::{Device, Parameter};
use serde::{Deserialize, Serialize};

use crate::card::{Card, Footprint, Setting, settings};
use crate::edit::Touches;
use crate::editor::{Lessons, Request};
use crate::error::Result;
use crate::hyper::{
    BlockPlan, BlockSettings, Blocks, Config, Gathered, Generalise, HyperEditor, HyperNetwork,
    LearnedParts, Sides, Sites, Subject, TRAINED, open_clamp,
};
use crate::training::{Schedule, Values};

/// Model editor networks with gradient decomposition.
pub static EDITOR: HyperEditor<Mend> = HyperEditor::new(&CARD);

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
    touches: Footprint::of(
        &[Touches::Weights],
        "two feed-forward matrices in each of `layers`, or the vision side",
    ),
    cost: "trained once; per edit one forward and backward pass and the network on the edit's tokens",
    failures: &[
        "edits what the training records are like; another bias or another model needs another training",
        "many requests at once add up: the norm of the update grows with their number",
    ],
    settings: settings![
        Sites::SETTINGS,
        BlockSettings::SETTINGS,
        SETTINGS,
        Generalise::SETTINGS,
        TRAINED,
        Schedule::SETTINGS,
    ],
};

/// Settings of the network and its objective.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Mend {
    #[serde(flatten)]
    blocks: BlockSettings,
    descent: bool,
    dead_edit_lr: bool,
    #[serde(flatten)]
    objective: Generalise,
}

/// The meaning of those that are its own.
const SETTINGS: &[Setting] = &[
    (
        "descent",
        "subtract the update (the reference adds it and must learn the sign)",
    ),
    (
        "dead_edit_lr",
        "as in the reference, the rates α_W move with `lr`, because its second optimiser never sees a gradient",
    ),
];

impl Mend {
    fn blocks(&self, sites: &[&Parameter], seed: u64, device: &Device) -> Blocks {
        let plan = BlockPlan {
            stream: ID,
            settings: BlockSettings {
                lr_lr: if self.dead_edit_lr {
                    self.blocks.lr
                } else {
                    self.blocks.lr_lr
                },
                ..self.blocks
            },
            epsilon: 1e-7,
            scalars: &[],
            step: |outer, scale, shift| open_clamp(outer * scale + shift),
        };
        Blocks::new(plan, sites, seed, device)
    }
}

impl HyperNetwork for Mend {
    type Parts = Blocks;
    type Objective = Generalise;
    type Condition = ();

    const GATE: &'static str = "edit_lr";
    const RANDOM: &'static str = "V at the start, and the order of the training records";

    fn preset(preset: Preset) -> Config<Self> {
        let reference = preset == Preset::RefEasyedit;
        Config {
            sites: Sites::published(),
            network: Self {
                blocks: BlockSettings {
                    rank: 1920,
                    norm: true,
                    bound: match preset {
                        Preset::Project => Some(10.0),
                        Preset::Paper | Preset::RefEasyedit => None,
                    },
                    edit_lr: 1e-4,
                    lr: 1e-6,
                    lr_lr: 1e-4,
                },
                descent: !reference,
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

    fn parts(&self, subject: &Subject, seed: u64) -> Blocks {
        self.blocks(&subject.sites, seed, subject.model.device())
    }

    fn objective(&self, _: &Lessons, _: u64) -> Generalise {
        self.objective
    }

    fn condition(&self, _: &Subject, _: &[&Request]) -> Result<()> {
        Ok(())
    }

    fn propose(&self, blocks: &Blocks, values: &Values, gathered: &Gathered, _: &()) -> Sides {
        let transformed = blocks.transform(values, gathered).into_iter();
        let sides = transformed.map(|of| {
            let sign = if self.descent { -1.0 } else { 1.0 };
            let step = of.delta * of.rate.mul_scalar(sign);
            (of.site, of.factors.sides(of.x, step))
        });
        sides.collect()
    }

    fn probe(&self, blocks: &Blocks, gathered: &Gathered) -> Option<(Sides, usize)> {
        let plain = Self {
            descent: false,
            ..*self
        };
        let blocks = blocks.unlearned();
        let sides = plain.propose(&blocks, &blocks.start(), gathered, &());
        Some((sides, 0))
    }
}
