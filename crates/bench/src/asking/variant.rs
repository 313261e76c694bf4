//! Which variant of a model is asked: the model itself, edited, merged, or another folder's.

use anyhow::Context;
use debias_edit::{Direct, Edit, Respondent};
use debias_merge::Options;
use debias_model::engine::{Batching, Engine, Pictures, Watch};
use debias_model::{Model, Parameters, Style};
use debias_weights::Checkpoint;

use crate::compute::Dtype;
use crate::models::ModelSource;
use crate::models::merging::{MergeRequest, Models, refusal};
use crate::planner::{EditRequest, Planned};
use crate::runner::{Execution, Runner};
use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;
use crate::terminal::interrupt::Interrupt;
use crate::terminal::machine;
use crate::terminal::printer::Printer;

/// What is asked in the place of the model.
#[derive(Clone, Debug)]
pub enum VariantRequest {
    /// The model itself.
    Itself,
    /// The model with the requests of a file edited together.
    Edited(Box<EditRequest>),
    /// What a recipe makes.
    Merged(MergeRequest),
    /// Another model, by name or folder.
    Other(String),
}

/// How models are opened, and who is told what happens on the way.
pub struct Opening<'a> {
    /// Opens a checkpoint.
    pub open: &'a dyn Fn(Checkpoint) -> anyhow::Result<Model>,
    /// The number format computed in.
    pub dtype: Dtype,
    /// Worker threads.
    pub threads: usize,
    /// Ctrl-C.
    pub interrupt: &'a Interrupt,
    /// Told what is done.
    pub printer: Printer,
}

/// A model that is asked, and the one that stands beside it.
pub struct AskedModel {
    model: Model,
    variant: Variant,
    interrupt: Interrupt,
}

/// What makes the answers other than those of the model.
enum Variant {
    None,
    Edit(Box<Edit>),
    Model(Box<Model>),
}

impl Opening<'_> {
    /// Opens `name` and its variant: edits are computed, merges are made.
    ///
    /// # Errors
    /// An unknown name, a model, recipe or request that cannot be used, or an interrupt.
    pub fn asking(&self, name: &str, variant: VariantRequest) -> anyhow::Result<AskedModel> {
        let (model, variant) = match variant {
            VariantRequest::Edited(request) => {
                let (model, edit) = self.edited(&request)?;
                (model, Variant::Edit(Box::new(edit)))
            }
            VariantRequest::Itself => (self.model(name)?, Variant::None),
            VariantRequest::Other(other) => {
                let other = self.model(&other)?;
                (self.model(name)?, Variant::Model(Box::new(other)))
            }
            VariantRequest::Merged(request) => {
                let merged = self.merged(&request)?;
                (self.model(name)?, Variant::Model(Box::new(merged)))
            }
        };
        Ok(AskedModel {
            model,
            variant,
            interrupt: self.interrupt.clone(),
        })
    }

    fn model(&self, name: &str) -> anyhow::Result<Model> {
        let checkpoint = ModelSource::resolve(name)?.checkpoint()?;
        let model = (self.open)(checkpoint)?.computing_in(self.dtype.into());
        self.say(&model);
        Ok(model)
    }

    /// Tells what a person should know about how a model's folder was read.
    fn say(&self, model: &Model) {
        for note in model.notes() {
            self.printer.warn(note);
        }
    }

    /// The model and the requests of a file as one edit of it.
    fn edited(&self, request: &EditRequest) -> anyhow::Result<(Model, Edit)> {
        let planned = Planned::requests(request, self.interrupt)?;
        if planned.suite.tasks.len() > 1 {
            let path = request.path.display();
            return Err(Refusal::new(
                Exit::Usage,
                format!("{path}: the requests are of several tasks, and one edit is of one"),
            )
            .help("Choose one with --task, or requests with --id.")
            .into());
        }
        let execution = Execution {
            threads: self.threads,
            fresh: false,
            joint: false,
        };
        let runner = Runner::new(&planned, execution, self.interrupt, self.printer);
        let (model, joint) = runner.joint()?;
        self.say(&model);
        let requests = match joint.requests {
            1 => "1 request".to_owned(),
            n => format!("{n} requests"),
        };
        let editor = planned.suite.editors.join(", ");
        self.printer
            .note(&format!("Edited {requests} with {editor}."));
        Ok((model, joint.edit))
    }

    /// The model that a recipe makes, which is kept nowhere.
    fn merged(&self, request: &MergeRequest) -> anyhow::Result<Model> {
        let models = Models::of(&request.recipe);
        let read = models.read(request)?;
        for warning in &read.warnings {
            self.printer.warn(warning);
        }
        let options = Options {
            threads: self.threads,
            ..Options::default()
        };
        let planned = debias_merge::Planned::new(read, &models, options).map_err(refusal)?;
        for note in planned.notes() {
            self.printer.warn(note);
        }
        let scratch = tempfile::tempdir().context("cannot create a folder for the merge")?;
        let folder = scratch.path().join("merged");
        let written = planned.write(&folder, false, &Stop(self.interrupt));
        self.interrupt.check()?;
        written.map_err(refusal)?;
        let model = (self.open)(Checkpoint::open(&folder)?)?;
        Ok(model.computing_in(self.dtype.into()))
    }
}

/// Ends a merge on Ctrl-C.
struct Stop<'a>(&'a Interrupt);

impl debias_merge::Watch for Stop<'_> {
    fn advance(&self, _bytes: u64) {}

    fn stop(&self) -> bool {
        self.0.is_raised()
    }
}

impl AskedModel {
    /// The chat template of the model that is asked, where its folder has one and `style` puts it
    /// around prompts.
    pub fn template(&self, style: Style) -> Option<&str> {
        match &self.variant {
            Variant::Model(other) => other.template(style),
            Variant::None | Variant::Edit(_) => self.model.template(style),
        }
    }

    /// Ends the work on Ctrl-C; called between windows of lines.
    ///
    /// # Errors
    /// A [`Refusal`] with exit status 130 or 143.
    pub fn check(&self) -> Result<(), Refusal> {
        self.interrupt.check()
    }

    /// Lets `work` ask: whoever answers, and the model without the variant, where there is one.
    ///
    /// # Errors
    /// An edit that does not fit the model, or the error of `work`.
    pub fn ask<T>(
        &self,
        (pictures, watch): (&dyn Pictures, &dyn Watch),
        batching: Batching,
        work: impl FnOnce(&dyn Respondent, Option<&dyn Respondent>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let engine = |model, view| Engine {
            model,
            view,
            pictures,
            batching,
            watch,
        };
        let base = Direct::base(engine(&self.model, self.model.base()));
        match &self.variant {
            Variant::None => work(&base, None),
            Variant::Model(other) => {
                let other = Direct::edited(engine(other, other.base()));
                work(&other, Some(&base))
            }
            Variant::Edit(edit) => {
                if let Some(respondent) = edit.over(&base) {
                    return work(respondent.as_ref(), Some(&base));
                }
                let changes: Vec<_> = edit.change().into_iter().collect();
                let view = self.model.view(&changes)?;
                work(&Direct::edited(engine(&self.model, view)), Some(&base))
            }
        }
    }
}

/// Threads of a command: those asked for, or all.
pub fn threads(asked: Option<u16>) -> usize {
    asked.map_or_else(machine::cores, usize::from)
}
