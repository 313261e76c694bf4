//! From what was typed to what will happen: names checked, files opened, settings merged.

mod cells;
mod editors;
mod evaluation;
mod mergers;
mod request;
mod requests;

use std::sync::Arc;

use anyhow::Context;
use debias_core::{Cell, Identity, Overrides, Plan, Protocol, Shard, Suite, Task, Variant};
use debias_data::{Collection, Dataset, datasets};
use debias_edit::Editor;
use debias_model::device::{DeviceName, Placement};
use debias_model::{Model, Style};
use serde_json::{Value, json};

use self::cells::{Terms, cells};
pub use self::editors::{PlannedEditor, given, merged_settings};
use self::editors::{Shelf, known_settings, overrides, settings_value};
pub use self::evaluation::{Chosen, EvalRequest, PlannedBenchmark, PlannedEval};
pub use self::mergers::PlannedMerge;
pub use self::request::{Batches, Command, Conditions, EditRequest, RunRequest};
use crate::compute::Dtype;
use crate::external::{self, External};
use crate::models::ModelSource;
use crate::results::artifacts::Artifacts;
use crate::results::store::RunFolder;
use crate::roots::Roots;
use crate::suites;
use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;
use crate::terminal::interrupt::Interrupt;

/// Records that share one forward pass.
pub const CHUNK: usize = 16;

/// A model of the plan.
pub struct PlannedModel {
    /// Where it comes from.
    pub source: ModelSource,
    /// Name and digest.
    pub identity: Identity,
    /// Editors in the order of the suite, with the settings they have on this model.
    pub editors: Vec<PlannedEditor>,
    /// Merges in the order of the suite, one per point of each grid.
    pub mergers: Vec<PlannedMerge>,
    /// The folder's own chat template, where it is put around prompts.
    pub template: Option<String>,
    /// What a person should know about how its folder was read.
    pub notes: Vec<String>,
}

impl PlannedModel {
    /// The merge that `cell` is, unless an editor is.
    pub fn merge(&self, cell: &Cell) -> Option<&PlannedMerge> {
        let own = |merge: &&PlannedMerge| Variant::Merge(merge.made.as_row()) == cell.variant;
        self.mergers.iter().find(own)
    }
}

/// The data of the plan, opened under one seed.
pub struct PlannedData {
    /// The seed of wordings and pairings.
    pub seed: u64,
    /// Name and digest.
    pub identity: Identity,
    /// The records and pictures.
    pub collection: Arc<dyn Collection>,
}

/// Everything that is decided before any work.
pub struct Planned {
    /// The suite as narrowed by the flags.
    pub suite: Suite,
    /// Whether that is no suite but a single `edit`.
    pub alone: bool,
    /// Scorer, filter and templates.
    pub protocol: Protocol,
    /// All cells.
    pub plan: Plan,
    /// The cells of this invocation.
    pub shard: Plan,
    /// Where results go.
    pub folder: RunFolder,
    /// Where the answers of never-edited models go.
    pub bases: RunFolder,
    /// Where trained parts go.
    pub artifacts: Artifacts,
    /// Models, in order.
    pub models: Vec<PlannedModel>,
    /// Data, one per seed.
    pub data: Vec<PlannedData>,
    /// Only so many admitted records per task.
    pub limit: Option<usize>,
    /// Where the parts of its models live.
    pub placement: Placement,
    /// The name of the device that all parts share unless placed apart.
    pub device: DeviceName,
    /// The number format it is computed in.
    pub dtype: Dtype,
    /// What a reader must know, one sentence each.
    pub remarks: Vec<String>,
}

/// What is to be planned, before anything is opened.
struct Draft<'a> {
    suite: Suite,
    alone: bool,
    shard: Option<Shard>,
    conditions: &'a Conditions,
    interrupt: &'a Interrupt,
}

impl Draft<'_> {
    /// Checks and opens everything: settings first, then models, then what `data` opens.
    fn planned(
        self,
        data: impl FnOnce(&Suite) -> anyhow::Result<Vec<PlannedData>>,
        remarks: impl FnOnce(&Suite, &[PlannedModel], &[PlannedData]) -> anyhow::Result<Vec<String>>,
    ) -> anyhow::Result<Planned> {
        let Self {
            suite,
            alone,
            shard,
            conditions,
            interrupt,
        } = self;
        let placement = conditions.placement.clone();
        let (device, dtype) = (conditions.device, conditions.dtype);
        let known = known_settings(suite.preset);
        let given = overrides(&suite, &conditions.settings, &known)?;
        let protocol = Protocol::of(suite.preset).with(&given)?;
        let sources = suite
            .models
            .iter()
            .map(|name| ModelSource::resolve(name))
            .collect::<debias_core::Result<Vec<_>>>()?;
        let data = data(&suite)?;
        let foreign = foreign(conditions, &protocol, &data, interrupt)?;
        let models = planned_models(sources, &suite, &given, &placement, Shelf::new(foreign))?;
        let limit = conditions.limit;
        let terms = Terms {
            protocol: &protocol,
            limit,
            device,
            dtype,
            max_memory: conditions.max_memory,
        };
        let plan = cells(alone, &suite, &terms, &models, &data)?;
        Ok(Planned {
            remarks: remarks(&suite, &models, &data)?,
            folder: RunFolder::of(&conditions.out, &suite.name, &plan),
            bases: RunFolder::of_bases(&conditions.out),
            artifacts: Artifacts::below(&conditions.out),
            shard: shard.map_or_else(|| plan.clone(), |shard| plan.shard(shard)),
            suite,
            alone,
            protocol,
            plan,
            models,
            data,
            limit,
            placement,
            device,
            dtype,
        })
    }
}

impl Planned {
    /// What the recipes of its merges hold that has no effect, each sentence once.
    pub fn recipe_warnings(&self) -> Vec<String> {
        mergers::warnings(self.models.iter().flat_map(|model| &model.mergers))
    }

    /// Decides what `selection` means.
    ///
    /// # Errors
    /// An unknown name or setting, an unusable model, dataset or device; nothing was written.
    pub fn new(selection: &RunRequest, interrupt: &Interrupt) -> anyhow::Result<Self> {
        let (suite, dataset) = narrowed(selection)?;
        let draft = Draft {
            suite,
            alone: false,
            shard: selection.shard,
            conditions: &selection.conditions,
            interrupt,
        };
        let data = |suite: &Suite| opened(suite, dataset, &Roots::new(&selection.data)?);
        draft.planned(data, |suite, models, data| {
            remarks(suite, selection, models, dataset, data)
        })
    }

    /// The name and the edition of the suite; none for a single `edit`.
    pub fn published(&self) -> Option<(&str, &str)> {
        (!self.alone).then_some((&self.suite.name, &self.suite.edition))
    }

    /// The merged configuration, as printed by `plan` and kept in `run.json`.
    pub fn config(&self) -> Value {
        let editors: serde_json::Map<_, _> = self
            .models
            .iter()
            .map(|model| {
                let settings = |planned: &PlannedEditor| {
                    let id = planned.editor.card().id.to_owned();
                    (id, settings_value(&planned.settings))
                };
                let editors = model.editors.iter().map(settings).collect();
                (model.identity.id.clone(), Value::Object(editors))
            })
            .collect();
        json!({
            "suite": self.published().map(|(name, _)| name),
            "edition": self.published().map(|(_, edition)| edition),
            "preset": self.suite.preset,
            "models": self.suite.models,
            "tasks": self.suite.tasks,
            "dataset": self.suite.dataset,
            "batching": self.suite.batching,
            "seeds": self.suite.seeds,
            "limit": self.limit,
            "protocol": self.protocol,
            "chunk": CHUNK,
            "editors": editors,
            "intermediates": named(&self.suite.intermediates, |made| &made.name),
            "mergers": named(&self.suite.mergers, |merger| &merger.name),
        })
    }

    /// The data's own name for its multimodal-locality items, when that is a stand-in for the
    /// published ones.
    pub fn stand_in(&self) -> Option<String> {
        self.data
            .iter()
            .map(|data| data.collection.m_locality_source())
            .find(|source| source.contains("stand-in"))
            .map(str::to_owned)
    }
}

/// What a suite says of things with names, by name.
fn named<T: serde::Serialize>(things: &[T], name: impl Fn(&T) -> &String) -> Value {
    let things = things.iter();
    things
        .map(|thing| (name(thing).clone(), json!(thing)))
        .collect()
}

/// The suite with the flags' choices in place of its own, and its dataset.
fn narrowed(selection: &RunRequest) -> anyhow::Result<(Suite, &'static dyn Dataset)> {
    let mut suite = suites::find(&selection.suite)?;
    if !selection.models.is_empty() {
        suite.models.clone_from(&selection.models);
    }
    if !(selection.editors.is_empty() && selection.mergers.is_empty()) {
        suite.mergers = mergers::narrowed(&suite, &selection.mergers)?;
        suite.editors.clone_from(&selection.editors);
    }
    let conditions = &selection.conditions;
    if conditions.command.is_some() && !suite.editors.iter().any(|e| e == external::NAME) {
        suite.editors.push(external::NAME.to_owned());
    }
    if !selection.tasks.is_empty() {
        suite.tasks.clone_from(&selection.tasks);
    }
    if let Some(dataset) = &selection.dataset {
        suite.dataset.clone_from(dataset);
    }
    if let Some(seed) = conditions.seed {
        suite.seeds = vec![seed];
    }
    suite.batching = conditions.batches.instead_of(&suite.batching);
    if let Some(preset) = conditions.preset {
        suite.preset = preset;
    }
    let dataset = datasets::find(&suite.dataset)?;
    let has = |task: &Task| dataset.tasks().contains(task);
    match selection.tasks.is_empty() {
        true => suite.tasks.retain(has),
        false => {
            if let Some(task) = suite.tasks.iter().find(|task| !has(task)) {
                return Err(no_such_task(&suite.dataset, *task).into());
            }
        }
    }
    suite.check(&selection.suite)?;
    Ok((suite, dataset))
}

fn no_such_task(dataset: &str, task: Task) -> Refusal {
    Refusal::new(
        Exit::Usage,
        format!("dataset `{dataset}` has no {} records", task.name()),
    )
    .help(format!("`bench show {dataset}` lists its tasks."))
}

/// The editor behind `--command`.
fn foreign(
    conditions: &Conditions,
    protocol: &Protocol,
    data: &[PlannedData],
    interrupt: &Interrupt,
) -> Result<Option<Arc<dyn Editor>>, Refusal> {
    let Some(command) = &conditions.command else {
        return Ok(None);
    };
    if command.line.trim().is_empty() {
        return Err(Refusal::new(Exit::Usage, "--command is empty")
            .help("For example --command 'python3 my_editor.py'."));
    }
    let data = data.iter().map(|data| (data.seed, data.collection.clone()));
    Ok(Some(Arc::new(External::new(
        command.line.clone(),
        command.timeout,
        protocol.templates.clone(),
        data.collect(),
        interrupt.clone(),
    ))))
}

fn opened(suite: &Suite, dataset: &dyn Dataset, roots: &Roots) -> anyhow::Result<Vec<PlannedData>> {
    suite
        .seeds
        .iter()
        .map(|seed| {
            let collection: Arc<dyn Collection> = roots.open(dataset, *seed)?.into();
            Ok(PlannedData {
                seed: *seed,
                identity: Identity {
                    id: suite.dataset.clone(),
                    digest: collection.digest()?,
                },
                collection,
            })
        })
        .collect()
}

/// Opens every model once, so that nothing is computed before all of them are known to load and
/// every setting is known to fit.
fn planned_models(
    sources: Vec<ModelSource>,
    suite: &Suite,
    given: &Overrides,
    placement: &Placement,
    mut shelf: Shelf,
) -> anyhow::Result<Vec<PlannedModel>> {
    let mut models: Vec<PlannedModel> = Vec::new();
    for source in sources {
        let editors = shelf.planned(suite, &source, given)?;
        let checkpoint = source.checkpoint()?;
        let model = Model::open_across(&checkpoint, placement)?;
        for planned in &editors {
            planned.check_side(suite, &model)?;
            planned.editor.check(&model, &planned.settings)?;
        }
        let identity = Identity {
            id: model.name().to_owned(),
            digest: checkpoint.digest()?,
        };
        let mergers = mergers::planned(suite, &source, &identity)?;
        if models.iter().any(|other| other.identity.id == identity.id) {
            return Err(Refusal::new(
                Exit::Usage,
                format!("two models are called `{}`", identity.id),
            )
            .help("Rename one of the folders; rows are told apart by name.")
            .into());
        }
        models.push(PlannedModel {
            source,
            identity,
            editors,
            mergers,
            template: model.template(Style::Framed).map(str::to_owned),
            notes: model.notes().to_vec(),
        });
    }
    Ok(models)
}

/// Loads a model, each part onto the device that `placement` says.
///
/// # Errors
/// Anything unreadable, missing, misshapen or unknown, named.
pub fn open(source: &ModelSource, placement: &Placement) -> anyhow::Result<Model> {
    Ok(Model::open_across(&source.checkpoint()?, placement)?)
}

fn remarks(
    suite: &Suite,
    selection: &RunRequest,
    models: &[PlannedModel],
    dataset: &dyn Dataset,
    data: &[PlannedData],
) -> anyhow::Result<Vec<String>> {
    let mut remarks = suite.remarks.clone();
    if selection.tasks.is_empty() {
        for task in Task::PICTURED {
            if !dataset.tasks().contains(&task) {
                remarks.push(format!(
                    "{} has no {} records; that block is left out.",
                    dataset.card().name,
                    task.name()
                ));
            }
        }
    }
    let name = &dataset.card().name;
    let mut strangers = Vec::new();
    for model in models {
        let trained_on = model.source.trained_on().context("the model's card")?;
        if let Some(trained_on) = trained_on.filter(|trained_on| trained_on != name) {
            strangers.push((model.identity.id.as_str(), trained_on));
        }
    }
    if let Some((_, trained_on)) = strangers.first() {
        let names: Vec<_> = strangers.iter().map(|(name, _)| *name).collect();
        remarks.push(format!(
            "{} learned from drawings of {trained_on} only and never saw a photograph: these figures show that the path works, not what a model of photographs would do.",
            names.join(" and ")
        ));
    }
    let own = data.first().and_then(|data| data.collection.remark());
    remarks.extend(own.map(sentence));
    Ok(remarks)
}

/// A remark as a sentence: a capital and a full stop.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let head: String = chars
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .collect();
    let stop = if text.ends_with('.') { "" } else { "." };
    format!("{head}{}{stop}", chars.as_str())
}
