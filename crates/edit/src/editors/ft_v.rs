//! FT-V: gradient descent on the whole Q-Former until the edit target is likely.
//!
//! `spec/editors.md` 3.1. Text alone never passes the Q-Former, so T-Locality stays exactly 1 by
//! construction; the damage shows in M-Locality. The reference freezes the Q-Former by default,
//! which makes this editor a silent no-op there: here a parameter without gradient is an error.

use debias_core::Preset;
use debias_model::{Mllm, Parameters, Side, Site, Stage};

use crate::card::Card;
use crate::editor::{Claims, Ctx, Editor, Learns, Lessons, Prepared};
use crate::error::Result;
use crate::fine_tune::{Descent, FineTuning, SETTINGS};
use crate::settings::Settings;

/// Fine-tuning of the bridge.
pub struct FtV;

const ID: &str = "ft-v";

static CARD: Card = Card {
    id: ID,
    version: 1,
    title: "fine-tuning of the Q-Former",
    summary: "Minimises the negative log-likelihood of the unbiased answer by gradient descent on \
              every parameter of the Q-Former, the language model frozen.",
    paper: "Cheng et al. 2023 (EasyEdit); Huang et al. 2024 (VLKEB)",
    equation: "θe = argmin_{θ_Q-Former} -1/a Σ_i log p_θ(y_less_i | image, prompt, y_less_<i)",
    touches: "weights: all parameters named `qformer.*`",
    cost: "per edit `steps` forward and backward passes through Q-Former and language model",
    failures: &["M-Locality: every picture passes the edited bridge"],
    settings: &SETTINGS,
};

/// Every parameter whose published name contains the Q-Former (VLKEB's choice; the learned
/// queries stand outside that name).
fn sites(model: &Mllm) -> Vec<&Site> {
    model
        .sites()
        .iter()
        .filter(|site| site.stage == Stage::Bridge && site.name.starts_with("qformer."))
        .collect()
}

impl Editor for FtV {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn defaults(&self, preset: Preset) -> Settings {
        Settings::of(&Descent::preset(preset))
    }

    fn learns(&self, settings: &Settings) -> Learns {
        let descent = settings.config::<Descent>(ID);
        descent.map_or(Learns::Nothing, |descent| descent.learns())
    }

    fn claims(&self, _settings: &Settings) -> Claims {
        Claims {
            side: Some(Side::Vision),
            ..Claims::default()
        }
    }

    fn identity(&self, settings: &Settings) -> Option<Settings> {
        Some(settings.clone().with("steps", 0))
    }

    fn check(&self, _model: &Mllm, settings: &Settings) -> Result<()> {
        settings.config::<Descent>(ID)?.check(ID)
    }

    fn prepare<'m>(
        &self,
        model: &'m Mllm,
        lessons: &Lessons,
        ctx: &Ctx,
    ) -> Result<Box<dyn Prepared + 'm>> {
        FineTuning::prepare(ID, model, sites(model), ctx.settings.config(ID)?, lessons)
    }
}
