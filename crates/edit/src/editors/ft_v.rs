//! FT-V: gradient descent on the whole Q-Former until the edit target is likely.
//!
//! `spec/editors.md` 3.1. Text alone never passes the Q-Former, so T-Locality stays exactly 1 by
//! construction; the damage shows in M-Locality. The reference freezes the Q-Former by default,
//! which makes this editor a silent no-op there: here a parameter without gradient is an error.

use std::sync::Arc;

use debias_core::Preset;
use debias_model::{Change, Mllm, Parameters, Site, Stage};

use crate::card::Card;
use crate::editor::{Ctx, Editor, Prepared, Request};
use crate::error::Result;
use crate::fine_tune::{self, Descent, Protocol, SETTINGS};
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

    fn check(&self, _model: &Mllm, settings: &Settings) -> Result<()> {
        settings.config::<Descent>(ID)?.check(ID)
    }

    fn prepare(
        &self,
        model: &Mllm,
        train: &mut dyn Iterator<Item = Result<Request>>,
        eval: &mut dyn Iterator<Item = Result<Request>>,
        ctx: &Ctx,
    ) -> Result<Prepared> {
        let descent: Descent = ctx.settings.config(ID)?;
        match descent.protocol {
            Protocol::PerEdit => Ok(Prepared::default()),
            Protocol::Dataset => fine_tune::whole_set(ID, model, train, &sites(model), &descent),
            Protocol::DatasetEval => fine_tune::whole_set(ID, model, eval, &sites(model), &descent),
        }
    }

    fn edit_each(
        &self,
        model: &Mllm,
        prepared: &Prepared,
        requests: &[Request],
        ctx: &Ctx,
    ) -> Result<Vec<Arc<Change>>> {
        let descent: Descent = ctx.settings.config(ID)?;
        fine_tune::edit_each(ID, model, prepared, requests, &sites(model), &descent)
    }
}
