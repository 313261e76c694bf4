//! FT-V: gradient descent on the whole Q-Former until the edit target is likely.
//!
//! `spec/editors.md` 3.1. Text alone never passes the Q-Former, so T-Locality stays exactly 1 by
//! construction; the damage shows in M-Locality. The reference freezes the Q-Former by default,
//! which makes this editor a silent no-op there: here a parameter without gradient is an error.

use debias_core::{Error as CoreError, Preset};
use debias_model::{Model, Parameter, Parameters, Side, Stage};
use serde::{Deserialize, Serialize};

use crate::card::{Card, Footprint, Setting, settings};
use crate::edit::Touches;
use crate::error::{Error, Result};
use crate::fine_tune::{Descent, FineTune};
use crate::settings::Settings;

const ID: &str = "ft-v";

/// Fine-tuning of the projector.
pub static EDITOR: FineTune = FineTune {
    card: &CARD,
    side: Side::Vision,
    choice,
    choose,
};

static CARD: Card = Card {
    id: ID,
    version: 1,
    title: "fine-tuning of the Q-Former",
    summary: "Minimises the negative log-likelihood of the unbiased answer by gradient descent on \
              every parameter of the Q-Former, the language model frozen.",
    paper: "Cheng et al. 2023 (EasyEdit); Huang et al. 2024 (VLKEB)",
    equation: "θe = argmin_{θ_Q-Former} -1/a Σ_i log p_θ(y_less_i | image, prompt, y_less_<i)",
    touches: Footprint::of(&[Touches::Weights], "all parameters named `qformer.*`"),
    cost: "per edit `steps` forward and backward passes through Q-Former and language model",
    failures: &["M-Locality: every picture passes the edited projector"],
    settings: settings![SETTINGS, Descent::SETTINGS],
};

/// What is chosen, as settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Choice {
    scope: Scope,
}

/// Their meaning.
const SETTINGS: &[Setting] = &[(
    "scope",
    "qformer (every parameter of it) or projection (the projector's last linear layer)",
)];

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

fn choice(_: Preset) -> Settings {
    Settings::of(&Choice {
        scope: Scope::Qformer,
    })
}

/// The parameters to edit.
fn choose<'m>(model: &'m Model, settings: &Settings) -> Result<Vec<&'m Parameter>> {
    let choice: Choice = settings.config(ID)?;
    let projector = || {
        model
            .parameters()
            .iter()
            .filter(|s| s.stage == Stage::Projector)
    };
    if projector().next().is_none() {
        return Err(Error::Elsewhere {
            editor: ID,
            problem: format!(
                "{} is a text model and has nothing to edit on the vision side; use ft-l",
                model.name()
            ),
        });
    }
    let is_qformer = |site: &&Parameter| {
        let name = site.name.to_lowercase();
        name.starts_with("qformer.") || name.contains(".qformer.")
    };
    let sites: Vec<&Parameter> = match choice.scope {
        Scope::Qformer => projector().filter(is_qformer).collect(),
        Scope::Projection => {
            let last = projector().rfind(|site| site.linear.is_some());
            let stem = last.and_then(|site| site.name.strip_suffix(".weight"));
            let own = |name: &str| stem.is_some_and(|stem| name.starts_with(stem));
            projector().filter(|site| own(&site.name)).collect()
        }
    };
    if sites.is_empty() {
        return Err(Error::Core(CoreError::Setting {
            key: format!("{ID}.scope"),
            problem: format!(
                "{} has no parameters of that kind; the other scope is qformer or projection",
                model.name()
            ),
        }));
    }
    Ok(sites)
}
