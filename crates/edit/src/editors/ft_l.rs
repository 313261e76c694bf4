//! FT-L: gradient descent on the last decoder layer until the edit target is likely.
//!
//! Cheng et al. 2023 and VLKEB for the per-edit protocol, MEND's baseline for the whole-set one;
//! `spec/editors.md` 3.1. Everything below the edited layer is the same at every step, so it is
//! computed once; the feed-forward scope only ever sees the positions that predict the answer.

use debias_core::Preset;
use debias_model::{Model, Parameter, Parameters, Side};
use serde::{Deserialize, Serialize};

use crate::card::Card;
use crate::editor::{Claims, Ctx, Editor, Learns, Lessons, Prepared};
use crate::error::Result;
use crate::fine_tune::{Descent, FineTuning, SETTINGS};
use crate::hyper::layer_index;
use crate::settings::Settings;

/// Fine-tuning of the language model's last layer.
pub struct FtL;

const ID: &str = "ft-l";

static CARD: Card = Card {
    id: ID,
    version: 1,
    title: "fine-tuning of the last decoder layer",
    summary: "Minimises the negative log-likelihood of the unbiased answer by gradient descent on \
              the last decoder layer, per request (VLKEB's protocol) or once on the training set \
              (the paper's rows).",
    paper: "Cheng et al. 2023 (EasyEdit); Huang et al. 2024 (VLKEB); Mitchell et al. 2022 (MEND)",
    equation: "θe = argmin_θ -1/a Σ_i log p_θ(y_less_i | image, prompt, y_less_<i), a few steps",
    touches: "weights: the feed-forward matrices of the chosen layers, or whole layers",
    cost: "per edit `steps` forward and backward passes from the edited layer up",
    failures: &[
        "forgets: locality falls with the norm of the update",
        "a learning rate that fits one width does not fit another",
    ],
    settings: &[
        (
            "scope",
            "ffn (feed-forward matrices) or layer (every parameter of the layer)",
        ),
        (
            "layers",
            "decoder layers to edit; negative numbers count from the last",
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

/// Settings of FT-L.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Config {
    scope: Scope,
    layers: Vec<i64>,
    #[serde(flatten)]
    descent: Descent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scope {
    Ffn,
    Layer,
}

impl Config {
    fn preset(preset: Preset) -> Self {
        Self {
            scope: match preset {
                Preset::Paper => Scope::Layer,
                Preset::Project | Preset::RefEasyedit => Scope::Ffn,
            },
            layers: vec![-1],
            descent: Descent::preset(preset),
        }
    }

    /// The parameters to edit.
    fn sites<'m>(&self, model: &'m Model) -> Result<Vec<&'m Parameter>> {
        let depth = model.decoder().outline().depth;
        let mut sites = Vec::new();
        for layer in &self.layers {
            let index = layer_index(ID, *layer, depth)?;
            match self.scope {
                Scope::Ffn => {
                    for name in model.decoder().outline().feed_forward_sites(index) {
                        sites.push(model.parameter(&name)?);
                    }
                }
                Scope::Layer => {
                    let prefix = model.decoder().outline().layer_prefix(index);
                    sites.extend(model.parameters().iter().filter(|site| {
                        site.side == Side::Language && site.name.starts_with(&prefix)
                    }));
                }
            }
        }
        Ok(sites)
    }
}

impl Editor for FtL {
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
            side: Some(Side::Language),
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
