//! FT-L: gradient descent on the last decoder layer until the edit target is likely.
//!
//! Cheng et al. 2023 and VLKEB for the per-edit protocol, MEND's baseline for the whole-set one;
//! `spec/editors.md` 3.1. Everything below the edited layer is the same at every step, so it is
//! computed once; the feed-forward scope only ever sees the positions that predict the answer.

use debias_core::Preset;
use debias_model::{Model, Parameter, Parameters, Side};
use serde::{Deserialize, Serialize};

use crate::card::{Card, Footprint, Setting, settings};
use crate::edit::Touches;
use crate::error::Result;
use crate::fine_tune::{Descent, FineTune};
use crate::hyper::layer_index;
use crate::settings::Settings;

const ID: &str = "ft-l";

/// Fine-tuning of the language model's last layer.
pub static EDITOR: FineTune = FineTune {
    card: &CARD,
    side: Side::Language,
    choice,
    choose,
};

static CARD: Card = Card {
    id: ID,
    version: 1,
    title: "fine-tuning of the last decoder layer",
    summary: "Minimises the negative log-likelihood of the unbiased answer by gradient descent on \
              the last decoder layer, per request (VLKEB's protocol) or once on the training set \
              (the paper's rows).",
    paper: "Cheng et al. 2023 (EasyEdit); Huang et al. 2024 (VLKEB); Mitchell et al. 2022 (MEND)",
    equation: "θe = argmin_θ -1/a Σ_i log p_θ(y_less_i | image, prompt, y_less_<i), a few steps",
    touches: Footprint::of(
        &[Touches::Weights],
        "the feed-forward matrices of the chosen layers, or whole layers",
    ),
    cost: "per edit `steps` forward and backward passes from the edited layer up",
    failures: &[
        "forgets: locality falls with the norm of the update",
        "a learning rate that fits one width does not fit another",
    ],
    settings: settings![SETTINGS, Descent::SETTINGS],
};

/// What is chosen, as settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Choice {
    scope: Scope,
    layers: Vec<i64>,
}

/// Their meaning.
const SETTINGS: &[Setting] = &[
    (
        "scope",
        "ffn (feed-forward matrices) or layer (every parameter of the layer)",
    ),
    (
        "layers",
        "decoder layers to edit; negative numbers count from the last",
    ),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scope {
    Ffn,
    Layer,
}

fn choice(preset: Preset) -> Settings {
    Settings::of(&Choice {
        scope: match preset {
            Preset::Paper => Scope::Layer,
            Preset::Project | Preset::RefEasyedit => Scope::Ffn,
        },
        layers: vec![-1],
    })
}

/// The parameters to edit.
fn choose<'m>(model: &'m Model, settings: &Settings) -> Result<Vec<&'m Parameter>> {
    let choice: Choice = settings.config(ID)?;
    let depth = model.decoder().outline().depth;
    let mut sites = Vec::new();
    for layer in &choice.layers {
        let index = layer_index(ID, *layer, depth)?;
        match choice.scope {
            Scope::Ffn => {
                for name in model.decoder().outline().feed_forward_sites(index) {
                    sites.push(model.parameter(&name)?);
                }
            }
            Scope::Layer => {
                let prefix = model.decoder().outline().layer_prefix(index);
                sites.extend(
                    model.parameters().iter().filter(|site| {
                        site.side == Side::Language && site.name.starts_with(&prefix)
                    }),
                );
            }
        }
    }
    Ok(sites)
}
