//! SERAC: remember the requests, and let a second model answer what they are about.
//!
//! Mitchell et al. 2022, "Memory-based model editing at scale"; `spec/editors.md` 3.3. The memory
//! itself, which decides and mixes, is [`crate::Memory`]; here its two trained parts are learned: a
//! classifier of scope and a counterfactual model.

mod distances;
mod scopes;
mod student;

use std::path::PathBuf;
use std::sync::Arc;

use debias_core::Preset;
use debias_model::{Change, Encoder, Model, open_folder};
use serde::{Deserialize, Serialize};

use self::scopes::Scopes;
use self::student::{Settled, Student, counterfactual};
use crate::card::{Card, Setting, settings};
use crate::edit::Edit;
use crate::editor::{Claims, Ctx, Editor, Learns, Lessons, Prepared, Request, check_requests};
use crate::error::Result;
use crate::hyper::TRAINED;
use crate::memory::gate::Gate;
use crate::memory::scope::{Mode, Reader, Scope};
use crate::memory::{Align, Memory, Mix, ScopeText, SeracParts, setting};
use crate::settings::Settings;
use crate::training::{Schedule, rehearsed, train};

/// Semi-parametric editing with a retrieval-augmented counterfactual model.
pub struct Serac;

const ID: &str = "serac";

static CARD: Card = Card {
    id: ID,
    version: 1,
    title: "a memory of requests, a classifier of their scope, and a counterfactual model",
    summary: "Remembers each request as text. A classifier decides once per picture and prompt \
              whether a remembered request is meant; if so, the answer is mixed with that of a \
              second model that reads the request in front of the question. That model is the \
              language model itself with a last layer of its own, so no second model is loaded. \
              Without a classifier's folder, texts are compared by the model's own input \
              embeddings under a trained linear layer. The image gate keeps questions on other \
              pictures out; off, the text alone decides, as in the reference.",
    paper: "Mitchell et al. 2022 (SERAC); Cheng et al. 2023 (multimodal)",
    equation: "log((1 - s) p_θ(y | x) + s p_φ(y | memory, x) + 1.19e-7), s = exp(-scale ‖e(memory) - e(x)‖²) of the best entry",
    touches: "output: what is in scope of a remembered request",
    cost: "trained once; an edit costs one embedding, a question in scope a second pass of the \
           last layer's model over request and question",
    failures: &[
        "scope by text alone takes every prompt with the same words for its own, whatever the picture shows",
        "image locality is not part of the reference's training (`mloc`), and is what its published rows lose",
        "a question that needs a remembered fact and something else gets the remembered fact",
    ],
    settings: settings![SETTINGS, TRAINED, Schedule::SETTINGS],
};

/// The settings of [`Config`] without its schedule.
const SETTINGS: &[Setting] = &[
    (
        "classifier",
        "folder of an encoder (BERT, DistilBERT) that reads scopes; null takes the model's own input embeddings under a trained linear layer",
    ),
    (
        "mode",
        "embedding (squared distance of two vectors: the first token's) or cross (a classifier of two classes reads both texts)",
    ),
    (
        "frozen",
        "train a linear layer on top of the classifier's sentence vectors in place of its weights",
    ),
    ("scale", "factor of the squared distance"),
    ("mix", "soft, or hard: the counterfactual where s > 1/2"),
    (
        "align",
        "suffix: mix where both sequences end with the same tokens; right: mix as many last positions as there are (the reference)",
    ),
    (
        "scope_text",
        "prompt, or prompt+answer (the reference), by which scope depends on the candidate",
    ),
    (
        "image_gate",
        "also compare pictures, by a threshold tuned on the training records",
    ),
    (
        "counterfactual",
        "self: the language model with a last layer of its own",
    ),
    (
        "training",
        "supervised: both parts apart (Mitchell et al.); unsupervised: soft mixing end to end (the multimodal reference)",
    ),
    (
        "mloc",
        "whether image-locality items are among what is to be left alone (the reference leaves them out)",
    ),
    (
        "hard",
        "share of the weight that the nearest out-of-scope pairs get (supervised)",
    ),
    (
        "calibrate",
        "fit a factor of all squared distances to the validation records after training",
    ),
    ("lr", "Adam's rate for the counterfactual model"),
    (
        "scope_lr",
        "Adam's rate for the classifier; null takes `lr`",
    ),
    ("cedit", "weight of the rephrased prompt's loss"),
    ("iedit", "weight of the rephrased picture's loss"),
    (
        "cloc",
        "weight of the divergence from the base model, or of the classifier's loss (supervised)",
    ),
];

/// How the two parts are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Training {
    /// Each by itself, the right entry given.
    Supervised,
    /// Together, through the soft mix.
    Unsupervised,
}

/// Which model answers what is in scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Counterfactual {
    /// The language model with a last layer of its own.
    #[serde(rename = "self")]
    Itself,
}

/// Settings of SERAC.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Config {
    classifier: Option<PathBuf>,
    mode: Mode,
    frozen: bool,
    scale: f64,
    mix: Mix,
    align: Align,
    scope_text: ScopeText,
    image_gate: bool,
    counterfactual: Counterfactual,
    training: Training,
    mloc: bool,
    hard: f64,
    calibrate: bool,
    lr: f64,
    scope_lr: Option<f64>,
    cedit: f64,
    iedit: f64,
    cloc: f64,
    trained: Option<PathBuf>,
    #[serde(flatten)]
    schedule: Schedule,
}

impl Config {
    fn preset(preset: Preset) -> Self {
        let published = Self {
            classifier: None,
            mode: Mode::Embedding,
            frozen: false,
            scale: 1.0,
            mix: Mix::Soft,
            align: Align::Suffix,
            scope_text: ScopeText::Prompt,
            image_gate: false,
            counterfactual: Counterfactual::Itself,
            training: Training::Unsupervised,
            mloc: false,
            hard: 0.0,
            calibrate: false,
            lr: 1e-5,
            scope_lr: None,
            cedit: 0.1,
            iedit: 0.1,
            cloc: 1.0,
            trained: None,
            schedule: Schedule {
                steps: 50_000,
                batch: 1,
                accumulate: 1,
                grad_clip: 100.0,
                val_every: 5_000,
                val_records: 1_000,
                patience: 50_000,
            },
        };
        match preset {
            Preset::Paper => published,
            Preset::RefEasyedit => Self {
                align: Align::Right,
                scope_text: ScopeText::PromptAnswer,
                ..published
            },
            // The two parts apart see every pair of a batch instead of one question per step.
            Preset::Project => Self {
                image_gate: true,
                training: Training::Supervised,
                hard: 0.5,
                calibrate: true,
                schedule: Schedule {
                    batch: 10,
                    patience: 20_000,
                    ..published.schedule
                },
                ..published
            },
        }
    }

    /// # Errors
    /// A value that cannot be used, named.
    fn check(&self) -> Result<()> {
        let numbers = [
            ("lr", self.lr),
            ("scope_lr", self.scope_lr.unwrap_or(0.0)),
            ("cedit", self.cedit),
            ("iedit", self.iedit),
            ("cloc", self.cloc),
        ];
        for (key, value) in numbers {
            if !(value.is_finite() && value >= 0.0) {
                return Err(setting(key, "must be a finite number of at least 0".into()));
            }
        }
        if !(self.scale.is_finite() && self.scale > 0.0) {
            return Err(setting("scale", "must be a finite number above 0".into()));
        }
        if !(0.0..=1.0).contains(&self.hard) {
            return Err(setting("hard", "must be a share from 0 to 1".into()));
        }
        let Some(folder) = &self.classifier else {
            return match self.mode {
                Mode::Embedding => Ok(()),
                Mode::Cross => Err(setting(
                    "mode",
                    "cross needs a classifier of two classes; name its folder in serac.classifier"
                        .into(),
                )),
            };
        };
        match Encoder::knows(&open_folder(folder)?)? {
            true => Ok(()),
            false => Err(setting(
                "classifier",
                format!(
                    "{} holds no encoder; give a folder of a BERT or DistilBERT model",
                    folder.display()
                ),
            )),
        }
    }
}

impl Editor for Serac {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn defaults(&self, preset: Preset) -> Settings {
        Settings::of(&Config::preset(preset))
    }

    fn inputs(&self, settings: &Settings) -> Result<Vec<PathBuf>> {
        let config: Config = settings.config(ID)?;
        Ok(config
            .classifier
            .into_iter()
            .chain(config.trained)
            .collect())
    }

    fn learns(&self, _settings: &Settings) -> Result<Learns> {
        Ok(Learns::Parts)
    }

    fn claims(&self, _settings: &Settings) -> Result<Claims> {
        Ok(Claims {
            random: "the order of the training records and the pairs that are held against each other",
            ..Claims::default()
        })
    }

    fn rehearsal(&self, settings: &Settings) -> Settings {
        rehearsed(settings)
    }

    fn check(&self, _model: &Model, settings: &Settings) -> Result<()> {
        settings.config::<Config>(ID)?.check()
    }

    fn prepare<'m>(
        &self,
        model: &'m Model,
        lessons: &Lessons,
        ctx: &Ctx,
    ) -> Result<Box<dyn Prepared + 'm>> {
        let config: Config = ctx.settings.config(ID)?;
        config.check()?;
        let folder = config.classifier.as_deref();
        let reader = Reader::of(model, folder, config.mode, config.frozen)?;
        let records = [lessons.train.records(), lessons.val.records()];
        let schedule = config.schedule.clone();
        let mut student = Student {
            model,
            scopes: Scopes::of(records.into_iter().flatten()),
            reader: reader.clone(),
            config,
            settled: Settled {
                gate: None,
                gain: 1.0,
            },
            seed: ctx.seed,
        };
        let (train_on, val) = (lessons.train, lessons.val);
        let values = train(ID, &mut student, &schedule, train_on, val, ctx)?;
        let Settled { gate, gain } = student.settled;
        let remarks = reader.note().into_iter();
        let remarks = remarks.chain(gate.as_ref().map(Gate::note)).collect();
        let parts = SeracParts {
            counterfactual: counterfactual(&values),
            scope: Scope {
                reader,
                scale: student.config.scale * gain,
                values,
            },
            scope_text: student.config.scope_text,
            gate,
            mix: student.config.mix,
            align: student.config.align,
        };
        Ok(Box::new(Ready {
            model,
            parts: Arc::new(parts),
            remarks,
        }))
    }
}

/// SERAC with its parts trained.
struct Ready<'m> {
    model: &'m Model,
    parts: Arc<SeracParts>,
    remarks: Vec<String>,
}

impl Ready<'_> {
    fn remember(&self, request: &Request) -> Result<Memory> {
        Memory::of(&self.parts, self.model, request)
    }
}

impl Prepared for Ready<'_> {
    fn edit_each(&self, requests: &[Request], _start: &Change) -> Result<Vec<Arc<Edit>>> {
        check_requests(self.model, requests)?;
        requests
            .iter()
            .map(|request| Ok(Arc::new(Edit::Memory(self.remember(request)?))))
            .collect()
    }

    fn remarks(&self) -> Vec<String> {
        self.remarks.clone()
    }
}
