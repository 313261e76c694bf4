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

use debias_core::{Norm, Preset};
use debias_model::{Batch, Change, Parameters, answer_scores};
use serde::{Deserialize, Serialize};

use self::network::{Gates, Network, gated};
use self::reader::Texts;
use crate::card::{Card, Footprint, Setting, settings};
use crate::edit::Touches;
use crate::edit::added;
use crate::editor::{Lessons, Request};
use crate::error::Result;
use crate::hyper::{
    Config, Gathered, Generalise, HyperEditor, HyperNetwork, Sides, Sites, Subject, TRAINED,
};
use crate::training::{Schedule, Values};

/// KnowledgeEditor.
pub static EDITOR: HyperEditor<Ke> = HyperEditor::new(&CARD);

static CARD: Card = Card {
    id: "ke",
    version: 1,
    title: "a trained gate on the gradient, conditioned on the edit's text",
    summary: "A bidirectional LSTM reads `old >> new || prompt`; from its summary every edited \
              matrix gets a mask of rank one for the gradient, an offset of rank one and a gate. \
              Trained with MEND's objective, as the paper's rows are.",
    paper: "De Cao et al. 2021 (KnowledgeEditor); Mitchell et al. 2022 (the objective); Huang et al. 2024 (multimodal)",
    equation: "W' = W + m σ(η) (G ⊙ softmax(r_a)ᵀ c_a + softmax(r_b)ᵀ c_b), (c_a, r_a, c_b, r_b, η) = h(LSTM(y_more >> y_less || prompt))",
    touches: Footprint::of(
        &[Touches::Weights],
        "two feed-forward matrices in each of `layers`, or the vision side",
    ),
    cost: "trained once; per edit one forward and backward pass and the network on the edit's text",
    failures: &[
        "the condition does not see the picture: two requests with the same text get the same gates",
        "learns slowly; with too little training it edits nothing",
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
pub(crate) struct Ke {
    h: usize,
    c: usize,
    max_scale: f64,
    max_repeats: usize,
    cond_max_len: usize,
    freeze_embedding: bool,
    lr: f64,
    #[serde(flatten)]
    objective: Generalise,
}

/// Their meaning, those of the objective apart.
const SETTINGS: &[Setting] = &[
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
];

impl HyperNetwork for Ke {
    type Parts = Network;
    type Objective = Generalise;
    type Condition = Texts;

    const GATE: &'static str = "max_scale";
    const RANDOM: &'static str = "the network at the start, and the order of the training records";

    fn preset(preset: Preset) -> Config<Self> {
        Config {
            sites: Sites::published(),
            network: Self {
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
                objective: Generalise::PUBLISHED,
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

    fn parts(&self, subject: &Subject, seed: u64) -> Network {
        Network::new(self, subject, seed)
    }

    fn objective(&self, _: &Lessons, _: u64) -> Generalise {
        self.objective
    }

    fn condition(&self, subject: &Subject, requests: &[&Request]) -> Result<Texts> {
        let ids = requests.iter().map(|request| {
            let record = &request.record;
            let text = format!(
                "{} >> {} || {}",
                record.y_more, record.y_less, record.prompt
            );
            let mut ids = subject.model.text().encode(&text, false)?;
            ids.truncate(self.cond_max_len.max(1));
            Ok(ids)
        });
        Ok(Texts {
            ids: ids.collect::<Result<_>>()?,
        })
    }

    fn propose(
        &self,
        network: &Network,
        values: &Values,
        gathered: &Gathered,
        texts: &Texts,
    ) -> Sides {
        network.propose(values, gathered, texts)
    }

    fn finish(
        &self,
        subject: &Subject,
        request: &Request,
        change: Change,
        start: &Change,
    ) -> Result<Change> {
        repeated(subject, request, change, start, self.max_repeats)
    }

    fn probe(&self, _: &Network, gathered: &Gathered) -> Option<(Sides, usize)> {
        let factors = gathered.factors.iter();
        let open = factors.map(|(name, f)| (name.clone(), gated(f, &Gates::open(f))));
        Some((open.collect(), 1))
    }
}

/// `change` as often as it takes to make the target the likelier answer, at most `limit` times.
fn repeated(
    subject: &Subject,
    request: &Request,
    change: Change,
    start: &Change,
    limit: usize,
) -> Result<Change> {
    let mut total = change.clone();
    for _ in 1..limit {
        if flips(subject, request, &total, start)? {
            break;
        }
        total = added(total, &change);
    }
    Ok(total)
}

fn flips(subject: &Subject, request: &Request, change: &Change, start: &Change) -> Result<bool> {
    let model = subject.model;
    let rows = subject.pair(request, request.image_ref())?;
    let view = model.view(&[&added(start.clone(), change)])?;
    let batch = Batch::over(rows.to_vec(), request.image.clone());
    // Below the first edited stage a view of one change sees what the base sees.
    let batch = model.run(batch, subject.first(), &model.base());
    let scores = answer_scores(&rows, model.answer_logits(batch, &view))?;
    Ok(scores[0].value(Norm::Mean) < scores[1].value(Norm::Mean))
}
