//! KE: a network that reads what is to be changed and gates the gradient with it.
//!
//! De Cao et al. 2021, "Editing factual knowledge in language models"; trained like MEND, as the
//! debias-editing paper's rows are (`spec/editors.md` 3.4). No dense matrix is formed: with
//! A = softmax(r_a)ᵀ c_a, the product G ⊙ A is diag(softmax(r_a)) G diag(c_a), so a change has the
//! rank of the gradient plus one.

mod network;
mod reader;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use debias_core::{Norm, Preset};
use debias_model::{Batch, Change, Model, Parameters, answer_scores};
use serde::{Deserialize, Serialize};

use self::network::{Gates, Network, gated};
use crate::card::Card;
use crate::edit::Edit;
use crate::editor::{
    Claims, Ctx, Editor, GradientProbe, Learns, Lessons, Prepared, Request, check_requests,
};
use crate::error::Result;
use crate::hyper::{HyperNetwork, Learner, SITE_SETTINGS, Sites, Weights, changes};
use crate::settings::Settings;
use crate::training::{SETTINGS, Schedule, Values, rehearsed, train};

/// KnowledgeEditor.
pub struct Ke;

const ID: &str = "ke";

static CARD: Card = Card {
    id: ID,
    version: 1,
    title: "a trained gate on the gradient, conditioned on the edit's text",
    summary: "A bidirectional LSTM reads `old >> new || prompt`; from its summary every edited \
              matrix gets a mask of rank one for the gradient, an offset of rank one and a gate. \
              Trained with MEND's objective, as the paper's rows are.",
    paper: "De Cao et al. 2021 (KnowledgeEditor); Mitchell et al. 2022 (the objective); Huang et al. 2024 (multimodal)",
    equation: "W' = W + m σ(η) (G ⊙ softmax(r_a)ᵀ c_a + softmax(r_b)ᵀ c_b), (c_a, r_a, c_b, r_b, η) = h(LSTM(y_more >> y_less || prompt))",
    touches: "weights: two feed-forward matrices in each of `layers`, or the vision side",
    cost: "trained once; per edit one forward and backward pass and the network on the edit's text",
    failures: &[
        "the condition does not see the picture: two requests with the same text get the same gates",
        "learns slowly; with too little training it edits nothing",
    ],
    settings: &[
        SITE_SETTINGS[0],
        SITE_SETTINGS[1],
        SITE_SETTINGS[2],
        ("h", "width of the LSTM and of the conditioners"),
        ("c", "width of the condition"),
        ("max_scale", "largest gate m"),
        (
            "max_repeats",
            "the change is added again, at most so often, until the answer flips",
        ),
        (
            "cond_max_len",
            "tokens of the condition; its end is left out",
        ),
        ("freeze_embedding", "keep the copied token table as it is"),
        ("lr", "Adam's rate"),
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

/// Settings of KE.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Config {
    #[serde(flatten)]
    sites: Sites,
    h: usize,
    c: usize,
    max_scale: f64,
    max_repeats: usize,
    cond_max_len: usize,
    freeze_embedding: bool,
    lr: f64,
    #[serde(flatten)]
    weights: Weights,
    trained: Option<PathBuf>,
    #[serde(flatten)]
    schedule: Schedule,
}

impl Config {
    fn preset(preset: Preset) -> Self {
        Self {
            sites: Sites::published(),
            h: 512,
            c: 768,
            max_scale: 1.0,
            max_repeats: 1,
            cond_max_len: match preset {
                Preset::RefEasyedit => 32,
                Preset::Project | Preset::Paper => 128,
            },
            freeze_embedding: false,
            lr: 1e-5,
            weights: Weights {
                cedit: 0.1,
                iedit: 0.1,
                cloc: 1.0,
            },
            trained: None,
            schedule: Schedule {
                steps: 100_000,
                batch: 1,
                accumulate: 10,
                grad_clip: 100.0,
                val_every: 5_000,
                val_records: 500,
                patience: 20_000,
            },
        }
    }
}

impl Editor for Ke {
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
            random: "the network at the start, and the order of the training records",
            side: config.ok().and_then(|config| config.sites.claimed()),
            ..Claims::default()
        }
    }

    fn identity(&self, settings: &Settings) -> Option<Settings> {
        Some(settings.clone().with("max_scale", 0).with("steps", 0))
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
            network: Network::new(&config, &sites, model, ctx.seed),
            sites,
            weights: config.weights,
        };
        let (train_on, val) = (lessons.train, lessons.val);
        let values = train(ID, &mut learner, &config.schedule, train_on, val, ctx)?;
        Ok(Box::new(Trained {
            learner,
            values,
            max_repeats: config.max_repeats,
        }))
    }
}

/// A trained hyper-network.
struct Trained<'m> {
    learner: Learner<'m, Network<'m>>,
    values: Values,
    max_repeats: usize,
}

impl Trained<'_> {
    /// `change` as often as it takes to make the target the likelier answer, within the limit.
    fn repeated(&self, request: &Request, change: Change, start: &Change) -> Result<Change> {
        let mut total = change.clone();
        for _ in 1..self.max_repeats {
            if self.flips(request, &total, start)? {
                break;
            }
            total = crate::edit::added(total, &change);
        }
        Ok(total)
    }

    fn flips(&self, request: &Request, change: &Change, start: &Change) -> Result<bool> {
        let model = self.learner.model;
        let record = &request.record;
        let rows = model
            .row_pair(
                request.image_ref(),
                &request.prompt,
                [&record.y_more, &record.y_less],
            )
            .map_err(|source| request.refused(source))?;
        let view = model.view(&[&crate::edit::added(start.clone(), change)])?;
        let batch = Batch::over(rows.to_vec(), request.image.clone());
        // Below the first edited stage a view of one change sees what the base sees.
        let batch = model.run(batch, self.learner.first(), &model.base());
        let scores = answer_scores(&rows, model.answer_logits(batch, &view))?;
        Ok(scores[0].value(Norm::Mean) < scores[1].value(Norm::Mean))
    }
}

impl Prepared for Trained<'_> {
    fn edit_each(&self, requests: &[Request], start: &Change) -> Result<Vec<Arc<Edit>>> {
        check_requests(self.learner.model, requests)?;
        let asked: Vec<&Request> = requests.iter().collect();
        let gathered = self.learner.gather(&asked, start)?;
        let network = &self.learner.network;
        let sides = network.propose(&self.values, &gathered, &network.condition(&asked)?);
        let changes = changes(&sides, requests.len()).into_iter();
        requests
            .iter()
            .zip(changes)
            .map(|(request, change)| {
                let change = match self.max_repeats {
                    0 | 1 => change,
                    _ => self.repeated(request, change, start)?,
                };
                Ok(Arc::new(Edit::Weights(change)))
            })
            .collect()
    }

    fn gradient_probe(&self, request: &Request) -> Result<Option<GradientProbe>> {
        let gathered = self.learner.gather(&[request], &Change::default())?;
        let sides = gathered
            .factors
            .iter()
            .map(|(name, factors)| (name.clone(), gated(factors, &Gates::open(factors))))
            .collect();
        let ranks = gathered.ranks(0).into_iter();
        Ok(Some(GradientProbe {
            gradient: changes(&sides, 1).pop().unwrap_or_default(),
            ranks: ranks.map(|(name, tokens)| (name, tokens + 1)).collect(),
        }))
    }
}
