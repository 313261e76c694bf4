//! BiasEdit: a network that turns the gradients of a pair of answers into one change by which the
//! model finds them equally likely.
//!
//! Xu et al. 2025, arXiv:2503.08588; `spec/editors.md` 12. The change solves the normal equations of
//! all rows ([`coefficients`]), so that any number of requests is one edit of the same kind.

use burn::tensor::Tensor;
use debias_core::Preset;
use debias_model::{Batch, ImageRef, Row, View};
use serde::{Deserialize, Serialize};

use crate::card::{Card, Footprint, Setting, settings};
use crate::edit::Touches;
use crate::editor::{Effect, Example, Lessons, Request};
use crate::error::Result;
use crate::hyper::{
    BlockPlan, BlockSettings, Blocks, Config, Divergence, EditObjective, Gathered, HyperEditor,
    HyperNetwork, Matrices, Meaningless, Said, Sides, Sites, Subject, TRAINED, beside,
    coefficients, open_clamp,
};
use crate::training::{Objective, Schedule, Values};

/// Debiasing by a hyper-network.
pub static EDITOR: HyperEditor<BiasEdit> = HyperEditor::new(&CARD);

const ID: &str = "biasedit";
/// In front of the names of the regularisers.
const LAMBDA: &str = "lambda";

static CARD: Card = Card {
    id: ID,
    version: 1,
    title: "a trained transform of gradients that makes both answers equally likely",
    summary: "A network shared by all matrices of one shape turns what enters a matrix, and the \
              gradient of the pair's divergence at its output, into the change of output that each \
              token wants; the change of the matrix is the least-squares compromise of all tokens \
              of all requests. Trained to bring both answers together and to keep the probability \
              of a meaningless answer.",
    paper: "Xu et al. 2025 (BiasEdit); Tan et al. 2024 (MALMEN)",
    equation: "W' = W + (KᵀK + e^λ I)⁻¹ KᵀV, v = -η ⟨k, k'⟩ g', [k'; g'] = two blocks z + s ⊙ max(0, U V z + b) + t; L = KL(more ‖ less) + KL(less ‖ more) + cloc KL(unedited ‖ edited) on a meaningless answer",
    touches: Footprint::of(
        &[Touches::Weights],
        "the second feed-forward matrix in each of `layers`, or the vision side",
    ),
    cost: "trained once; per edit one forward and backward pass over both answers and a system of as many equations as these have tokens",
    failures: &[
        "brings answers together and does not reverse them: reliability is near one half where balance is best",
        "the divergence of scalar probabilities is also small where both answers become unlikely",
        "loss = token compares distributions behind a shared beginning, and is blind to answers of one token",
    ],
    settings: settings![
        Sites::SETTINGS,
        BlockSettings::SETTINGS,
        SETTINGS,
        TRAINED,
        Schedule::SETTINGS
    ],
};

/// Settings of the network and its objective.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct BiasEdit {
    #[serde(flatten)]
    blocks: BlockSettings,
    joint: bool,
    loss: Divergence,
    cloc: f64,
}

/// The meaning of those that are its own.
const SETTINGS: &[Setting] = &[
    (
        "joint",
        "train with all records of a lesson as one edit, as published, in place of each alone",
    ),
    (
        "loss",
        "scalar (the answers' own probabilities) or token (whole distributions at shared tokens)",
    ),
    ("cloc", "weight of the meaningless answer's divergence"),
];

impl HyperNetwork for BiasEdit {
    type Parts = Blocks;
    type Objective = Balance;
    type Condition = ();

    const GATE: &'static str = "edit_lr";
    const RANDOM: &'static str = "V at the start, and the order of the training records";
    const EFFECT: Effect = Effect::Balance;
    const JOINT: bool = true;
    const MATRICES: Matrices = Matrices::Second;

    fn preset(preset: Preset) -> Config<Self> {
        let project = preset == Preset::Project;
        Config {
            sites: Sites::published(),
            network: Self {
                blocks: BlockSettings {
                    rank: 1920,
                    norm: true,
                    bound: project.then_some(10.0),
                    edit_lr: 1e-6,
                    lr: 1e-5,
                    lr_lr: 1e-5,
                },
                joint: !project,
                loss: Divergence::Scalar,
                cloc: 4.0,
            },
            trained: None,
            // 100 epochs of StereoSet's 1,800 training pairs, stopped early.
            schedule: Schedule {
                steps: 1_400,
                batch: if project { 16 } else { 128 },
                accumulate: 1,
                grad_clip: 1.0,
                val_every: 14,
                val_records: 500,
                patience: 140,
            },
        }
    }

    fn parts(&self, subject: &Subject, seed: u64) -> Blocks {
        let plan = BlockPlan {
            stream: ID,
            settings: self.blocks,
            epsilon: f64::from(f32::EPSILON),
            scalars: &[(LAMBDA, 0.0)],
            step: |outer, scale, shift| open_clamp(outer) * scale + shift,
        };
        Blocks::new(plan, &subject.sites, seed, subject.model.device())
    }

    fn objective(&self, lessons: &Lessons, seed: u64) -> Balance {
        Balance {
            loss: self.loss,
            cloc: self.cloc,
            meaningless: Meaningless::of(lessons, seed),
        }
    }

    fn condition(&self, _: &Subject, _: &[&Request]) -> Result<()> {
        Ok(())
    }

    fn learns_together(&self) -> bool {
        self.joint
    }

    fn propose(&self, blocks: &Blocks, values: &Values, gathered: &Gathered, _: &()) -> Sides {
        let transformed = blocks.transform(values, gathered).into_iter();
        let sides = transformed.map(|of| {
            let along = (beside(&of.factors.x, &of.x) * of.x).sum_dim(1);
            let wanted = (along * of.rate).neg() * of.delta;
            let keys = of.factors.by_request(of.factors.x.clone());
            let lambda = &values[&format!("{LAMBDA}.{}", of.site)];
            let solved = coefficients(&keys, of.factors.by_request(wanted), lambda);
            let sides = of.factors.oriented(beside(&keys, &solved), solved);
            (of.site, sides)
        });
        sides.collect()
    }
}

/// Both answers equally likely, and a meaningless one as likely as before.
pub(crate) struct Balance {
    loss: Divergence,
    cloc: f64,
    meaningless: Meaningless,
}

/// Both answers and the meaningless one of each record; the last as the base model says it.
pub(crate) struct Judged {
    rows: Vec<Row>,
    batch: Batch,
    before: Said,
}

impl Balance {
    /// Both ways between the two answers of each pair.
    fn apart(&self, more: &Said, less: &Said) -> Tensor<1> {
        more.divergence(less, self.loss) + less.divergence(more, self.loss)
    }

    fn pair(&self, subject: &Subject, of: &Request, image: Option<ImageRef>) -> Result<[Row; 2]> {
        let rows = subject.pair(of, image)?;
        let blind = rows.iter().any(|row| row.answer().len() < 2);
        if self.loss == Divergence::Token && blind {
            let why = "has an answer of one token, in which loss = token sees no difference";
            return Err(subject.refused(of, &format!("{why}; set {ID}.loss=scalar")));
        }
        Ok(rows)
    }
}

impl EditObjective for Balance {
    type Lesson = Judged;

    fn asked(&self, subject: &Subject, requests: &[&Request]) -> Result<(Vec<Row>, Batch)> {
        subject.batch(requests, |of, image| {
            Ok(self.pair(subject, of, image)?.to_vec())
        })
    }

    fn told(&self, rows: &[Row], logits: Tensor<3>) -> Tensor<1> {
        let [more, less] = Said::roles(rows, logits);
        self.apart(&more, &less)
    }

    fn labelled_alone(&self) -> bool {
        true
    }

    fn lesson(&self, subject: &Subject, examples: &[Example]) -> Result<Judged> {
        let requests: Vec<&Request> = examples.iter().map(|example| &example.request).collect();
        let (rows, batch) = subject.batch(&requests, |of, image| {
            let [more, less] = self.pair(subject, of, image)?;
            let answer = self.meaningless.answer(subject, of)?;
            Ok(vec![more, less, subject.row(of, image, answer)?])
        })?;
        let batch = subject.to_first(batch);
        let logits = subject.model.answer_logits(batch.clone(), &View::base());
        let [_, _, before] = Said::roles(&rows, logits);
        Ok(Judged {
            rows,
            batch,
            before,
        })
    }

    fn bytes(&self, lesson: &Judged) -> usize {
        let logits: usize = lesson.before.logits.dims().iter().product();
        lesson.batch.bytes() + logits * size_of::<f32>()
    }

    fn losses(&self, subject: &Subject, lesson: &Judged, view: &View) -> Objective {
        let logits = subject.model.answer_logits(lesson.batch.clone(), view);
        let [more, less, meaningless] = Said::roles(&lesson.rows, logits);
        let edit = self.apart(&more, &less).mean();
        let locality = lesson.before.divergence(&meaningless, self.loss).mean();
        Objective {
            total: edit.clone() + locality.clone().mul_scalar(self.cloc),
            edit,
            locality,
        }
    }

    fn remarks(&self) -> Vec<String> {
        self.meaningless.remark(ID).into_iter().collect()
    }
}
