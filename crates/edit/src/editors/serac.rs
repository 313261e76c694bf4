//! SERAC: remember the requests, and let a second model answer what they are about.
//!
//! Mitchell et al. 2022, "Memory-based model editing at scale"; `spec/editors.md` 3.3. The memory
//! itself, which decides and mixes, is [`crate::Memory`]; here its two trained parts are learned: a
//! classifier of scope and a counterfactual model.

mod config;
mod distances;
mod lesson;
mod scopes;
mod student;

use std::path::PathBuf;
use std::sync::Arc;

use debias_core::Preset;
use debias_model::{Change, Model};

use self::config::{Config, SETTINGS};
use self::scopes::Scopes;
use self::student::{Settled, Student, counterfactual};
use crate::card::{Card, Footprint, settings};
use crate::edit::{Edit, Touches};
use crate::editor::{Claims, Ctx, Editor, Learns, Lessons, Prepared, Request, check_requests};
use crate::error::Result;
use crate::hyper::TRAINED;
use crate::memory::gate::Gate;
use crate::memory::scope::{Reader, Scope};
use crate::memory::{Memory, SeracParts};
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
    touches: Footprint::of(
        &[Touches::Output],
        "what is in scope of a remembered request",
    ),
    cost: "trained once; an edit costs one embedding, a question in scope a second pass of the \
           last layer's model over request and question",
    failures: &[
        "scope by text alone takes every prompt with the same words for its own, whatever the picture shows",
        "image locality is not part of the reference's training (`mloc`), and is what its published rows lose",
        "a question that needs a remembered fact and something else gets the remembered fact",
    ],
    settings: settings![SETTINGS, TRAINED, Schedule::SETTINGS],
};

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
            .map(|request| Ok(Arc::new(Edit::from(self.remember(request)?))))
            .collect()
    }

    fn remarks(&self) -> Vec<String> {
        self.remarks.clone()
    }
}
