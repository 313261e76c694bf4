//! FT-V: gradient descent on the whole Q-Former until the edit target is likely.
//!
//! `spec/editors.md` 3.1. Text alone never passes the Q-Former, so T-Locality stays exactly 1 by
//! construction; the damage shows in M-Locality. The reference freezes the Q-Former by default,
//! which makes this editor a silent no-op there: here a parameter without gradient is an error.

use debias_core::{Error as CoreError, Preset};
use debias_model::{Model, Parameter, Parameters, Side, Stage};
use serde::{Deserialize, Serialize};

use crate::card::Card;
use crate::editor::{Claims, Ctx, Editor, Learns, Lessons, Prepared};
use crate::error::{Error, Result};
use crate::fine_tune::{Descent, FineTuning, SETTINGS};
use crate::settings::Settings;

/// Fine-tuning of the projector.
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
    failures: &["M-Locality: every picture passes the edited projector"],
    settings: &[
        (
            "scope",
            "qformer (every parameter of it) or projection (the projector's last linear layer)",
        ),
        SETTINGS[0],
        SETTINGS[1],
        SETTINGS[2],
        SETTINGS[3],
        SETTINGS[4],
        SETTINGS[5],
        SETTINGS[6],
        SETTINGS[7],
    ],
};

/// Settings of FT-V.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Config {
    scope: Scope,
    #[serde(flatten)]
    descent: Descent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scope {
    /// Every parameter whose published name contains the Q-Former (VLKEB's choice; the learned
    /// queries stand outside that name).
    Qformer,
    /// The last linear layer of the projector with its bias (the paper's component study edits
    /// MiniGPT-4 there).
    Projection,
}

impl Config {
    fn preset(preset: Preset) -> Self {
        Self {
            scope: Scope::Qformer,
            descent: Descent::preset(preset),
        }
    }

    /// The parameters to edit.
    fn sites<'m>(&self, model: &'m Model) -> Result<Vec<&'m Parameter>> {
        let projector = || {
            model
                .parameters()
                .iter()
                .filter(|s| s.stage == Stage::Projector)
        };
        let is_qformer = |site: &&Parameter| {
            let name = site.name.to_lowercase();
            name.starts_with("qformer.") || name.contains(".qformer.")
        };
        let sites: Vec<&Parameter> = match self.scope {
            Scope::Qformer => projector().filter(is_qformer).collect(),
            Scope::Projection => {
                let last = projector().rfind(|site| site.linear.is_some());
                let stem = last.and_then(|site| site.name.strip_suffix(".weight"));
                let own = |name: &str| stem.is_some_and(|stem| name.starts_with(stem));
                projector().filter(|site| own(&site.name)).collect()
            }
        };
        match sites.is_empty() {
            false => Ok(sites),
            true => Err(Error::Core(CoreError::Setting {
                key: format!("{ID}.scope"),
                problem: format!(
                    "{} has no parameters of that kind; the other scope is qformer or projection",
                    model.name()
                ),
            })),
        }
    }
}

impl Editor for FtV {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn defaults(&self, preset: Preset) -> Settings {
        Settings::of(&Config::preset(preset))
    }

    fn learns(&self, settings: &Settings) -> Learns {
        let config = settings.config::<Config>(ID);
        config.map_or(Learns::Nothing, |config| config.descent.learns())
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

    fn check(&self, model: &Model, settings: &Settings) -> Result<()> {
        let config: Config = settings.config(ID)?;
        config.descent.check(ID)?;
        config.sites(model).map(drop)
    }

    fn prepare<'m>(
        &self,
        model: &'m Model,
        lessons: &Lessons,
        ctx: &Ctx,
    ) -> Result<Box<dyn Prepared + 'm>> {
        let config: Config = ctx.settings.config(ID)?;
        let sites = config.sites(model)?;
        FineTuning::prepare(ID, model, sites, config.descent, lessons)
    }
}
