//! Which benchmarks, of which models: names checked, files read, cells named.

use std::path::PathBuf;

use anyhow::{Context, bail};
use debias_core::{
    BenchmarkIdentity, Cell, FORMAT_MAJOR, Identity, Mode, Plan, Preset, Protocol, Record, Split,
    Variant,
};
use debias_data::benchmarks::{self, Benchmark, Opened};
use debias_model::device::{DeviceName, Placement};
use debias_model::{Model, Style};

use super::{EditRequest, Planned};
use crate::asking::VariantRequest;
use crate::compute::Dtype;
use crate::models::ModelSource;
use crate::models::merging::Models;
use crate::results::store::RunFolder;
use crate::roots::Roots;
use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;
use crate::terminal::interrupt::Interrupt;

/// The name in front of the run folder.
const NAME: &str = "eval";

/// A benchmark by name, and which parts of it: `stereoset`, `bbq:Age,Religion`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The benchmark.
    pub name: String,
    /// Its parts; all of them where empty.
    pub parts: Vec<String>,
}

impl Chosen {
    /// Reads `NAME[:PART,…],NAME…`: a name behind a comma is a part of the benchmark before it, unless
    /// it is a benchmark's.
    ///
    /// # Errors
    /// A name that is none, of a benchmark or of a part.
    pub fn list(text: &str) -> debias_data::Result<Vec<Self>> {
        let mut chosen: Vec<Self> = Vec::new();
        for word in text.split(',') {
            let (name, part) = word
                .split_once(':')
                .map_or((word, None), |(n, p)| (n, Some(p)));
            match chosen.last_mut() {
                Some(last) if part.is_none() && !last.parts.is_empty() && !is_known(name) => {
                    last.parts.push(name.to_owned());
                }
                _ => {
                    benchmarks::find(name)?;
                    chosen.push(Self {
                        name: name.to_owned(),
                        parts: part.map(str::to_owned).into_iter().collect(),
                    });
                }
            }
        }
        chosen.iter().try_for_each(Self::check)?;
        Ok(chosen)
    }

    fn check(&self) -> debias_data::Result<()> {
        let parts = benchmarks::find(&self.name)?.parts();
        match self
            .parts
            .iter()
            .find(|part| !parts.contains(&part.as_str()))
        {
            Some(part) => {
                Err(debias_core::Error::unknown("part", part, parts.iter().copied()).into())
            }
            None => Ok(()),
        }
    }
}

fn is_known(name: &str) -> bool {
    benchmarks::ALL
        .iter()
        .any(|benchmark| benchmark.card().name == name)
}

/// What is asked of what, in plain values.
#[derive(Clone, Debug)]
pub struct EvalRequest {
    /// Benchmarks with their parts.
    pub benchmarks: Vec<Chosen>,
    /// Models, names or folders, and which variant of them is asked: the rows.
    pub rows: Vec<(String, VariantRequest)>,
    /// Where benchmarks are, `NAME=DIR`.
    pub data: Vec<String>,
    /// Only so many items of each stratum, by the rule of the benchmark.
    pub limit: Option<usize>,
    /// Seed of the order in which a limit draws, and of the intervals.
    pub seed: u64,
    /// Where run folders are kept.
    pub out: PathBuf,
    /// Where the parts of models live.
    pub placement: Placement,
    /// The device that all parts share unless placed apart.
    pub device: DeviceName,
    /// The number format computed in.
    pub dtype: Dtype,
    /// The most memory to take, if somebody says so.
    pub max_memory: Option<u64>,
    /// Tokens of a batch, padding included.
    pub batch_tokens: usize,
    /// Worker threads.
    pub threads: usize,
}

/// A variant of a model in the plan.
pub struct PlannedRow {
    /// The model, a name or a folder.
    pub name: String,
    /// What is asked in its place.
    pub request: VariantRequest,
    /// Name and digest of the model.
    pub model: Identity,
    /// Its folder's own chat template.
    template: Option<String>,
    /// The same, as cells name it.
    pub variant: Variant,
    /// The bundle of settings that an edit starts from.
    preset: Preset,
    /// How the requests of an edit are chosen.
    protocol: Protocol,
}

/// A benchmark of the plan, read.
pub struct PlannedBenchmark {
    /// The benchmark.
    pub benchmark: &'static dyn Benchmark,
    /// Its items.
    pub opened: Opened,
    /// What is asked.
    pub identity: BenchmarkIdentity,
    /// The files that were read.
    pub files: Identity,
}

/// Everything that is decided before a model is asked.
pub struct PlannedEval {
    /// The rows.
    pub rows: Vec<PlannedRow>,
    /// The benchmarks.
    pub benchmarks: Vec<PlannedBenchmark>,
    /// All cells: row by row.
    pub plan: Plan,
    /// Where results go.
    pub folder: RunFolder,
    /// How it is computed.
    pub request: EvalRequest,
}

impl PlannedEval {
    /// Reads every benchmark and opens every model once, before anything is computed.
    ///
    /// # Errors
    /// An unknown name or part, data that are not there or cannot be read, a model, recipe or edit
    /// request that cannot be used, or an interrupt.
    pub fn new(request: EvalRequest, interrupt: &Interrupt) -> anyhow::Result<Self> {
        let roots = Roots::new(&request.data)?;
        let chosen = request.benchmarks.iter();
        let benchmarks = chosen.map(|chosen| opened(chosen, &roots, &request));
        let benchmarks = benchmarks.collect::<anyhow::Result<Vec<_>>>()?;
        let rows = rows(&request, interrupt)?;
        let mut cells = Vec::with_capacity(rows.len() * benchmarks.len());
        for row in &rows {
            for benchmark in &benchmarks {
                cells.push(cell(row, benchmark, &request));
            }
        }
        if let Some(twice) = (1..cells.len()).find(|at| cells[..*at].contains(&cells[*at])) {
            let what = &cells[twice].benchmark.id;
            return Err(
                Refusal::new(Exit::Usage, format!("`{what}` is asked twice"))
                    .help("Name each benchmark once, with all its parts.")
                    .into(),
            );
        }
        let plan = Plan { cells };
        Ok(Self {
            folder: RunFolder::of(&request.out, NAME, &plan),
            rows,
            benchmarks,
            plan,
            request,
        })
    }

    /// The row that a cell is of.
    pub fn row(&self, cell: &Cell) -> Option<&PlannedRow> {
        let mut rows = self.rows.iter();
        rows.find(|row| row.model == cell.model && row.variant == cell.variant)
    }

    /// The benchmark that a cell asks.
    pub fn benchmark(&self, cell: &Cell) -> Option<&PlannedBenchmark> {
        let asked = |planned: &&PlannedBenchmark| planned.identity == cell.benchmark;
        self.benchmarks.iter().find(asked)
    }
}

fn opened(
    chosen: &Chosen,
    roots: &Roots,
    request: &EvalRequest,
) -> anyhow::Result<PlannedBenchmark> {
    let benchmark = benchmarks::find(&chosen.name)?;
    let source = roots
        .source(benchmark)
        .ok_or_else(|| benchmark.card().needs_data())?;
    let opened = benchmark.open(&source, &chosen.parts, request.limit, request.seed)?;
    let card = benchmark.card();
    let all = opened.parts.len() == benchmark.parts().len();
    Ok(PlannedBenchmark {
        identity: BenchmarkIdentity {
            id: card.name.clone(),
            version: card.version,
            parts: if all {
                Vec::new()
            } else {
                opened.parts.clone()
            },
        },
        files: Identity {
            id: card.name.clone(),
            digest: opened.digest.clone(),
        },
        benchmark,
        opened,
    })
}

fn rows(request: &EvalRequest, interrupt: &Interrupt) -> anyhow::Result<Vec<PlannedRow>> {
    let mut rows: Vec<PlannedRow> = Vec::with_capacity(request.rows.len());
    for (name, variant) in &request.rows {
        let known = rows.iter().find(|row| row.name == *name);
        let model = match known {
            Some(row) => (row.model.clone(), row.template.clone()),
            None => identity(name, request)?,
        };
        let mut others = rows.iter().filter(|row| row.name != *name);
        if others.any(|other| other.model.id == model.0.id) {
            return Err(Refusal::new(
                Exit::Usage,
                format!("two models are called `{}`", model.0.id),
            )
            .help("Rename one of the folders; rows are told apart by name.")
            .into());
        }
        rows.push(row(name, model, variant, interrupt)?);
    }
    Ok(rows)
}

/// What cells call a model, and the chat template that its folder puts around prompts.
fn identity(name: &str, request: &EvalRequest) -> anyhow::Result<(Identity, Option<String>)> {
    let checkpoint = ModelSource::resolve(name)?.checkpoint()?;
    let model = Model::open_across(&checkpoint, &request.placement)?;
    let identity = Identity {
        id: model.name().to_owned(),
        digest: checkpoint.digest()?,
    };
    Ok((identity, model.template(Style::Framed).map(str::to_owned)))
}

/// What cells call a variant of `model`.
fn row(
    name: &str,
    (model, template): (Identity, Option<String>),
    request: &VariantRequest,
    interrupt: &Interrupt,
) -> anyhow::Result<PlannedRow> {
    let row = |variant| PlannedRow {
        name: name.to_owned(),
        request: request.clone(),
        model,
        template,
        variant,
        preset: Preset::default(),
        protocol: Protocol::default(),
    };
    Ok(match request {
        VariantRequest::Itself => row(Variant::Base),
        VariantRequest::Merged(merge) => {
            row(Variant::Merge(Models::of(&merge.recipe).identity(merge)?))
        }
        VariantRequest::Edited(edit) => {
            let (variant, preset, protocol) = edited(edit, interrupt)?;
            PlannedRow {
                preset,
                protocol,
                ..row(variant)
            }
        }
        VariantRequest::Other(_) => bail!("another model is a row of its own"),
    })
}

/// The edit of all requests of a file, and what else decides it.
fn edited(
    request: &EditRequest,
    interrupt: &Interrupt,
) -> anyhow::Result<(Variant, Preset, Protocol)> {
    let planned = Planned::requests(request, interrupt)?;
    let cells = planned.plan.cells.into_iter();
    let cell = cells.last().context("a plan has a cell")?;
    let data = planned.data.first().context("a plan has data")?;
    let edited = |record: &&Record| record.split == Split::Eval;
    let mut batch = 0;
    for task in &planned.suite.tasks {
        batch += data
            .collection
            .records(*task)?
            .iter()
            .filter(edited)
            .count();
    }
    let editor = cell.variant.editor().context("a plan of edits edits")?;
    let variant = Variant::Edit {
        editor: editor.clone(),
        batch,
        mode: (batch > 1).then_some(Mode::Joint),
        gap: None,
        requests: Some(cell.dataset.digest),
    };
    Ok((variant, cell.preset, cell.protocol))
}

fn cell(row: &PlannedRow, benchmark: &PlannedBenchmark, request: &EvalRequest) -> Cell {
    Cell {
        format: FORMAT_MAJOR,
        suite: None,
        edition: None,
        model: row.model.clone(),
        benchmark: benchmark.identity.clone(),
        dataset: benchmark.files.clone(),
        variant: row.variant.clone(),
        preset: row.preset,
        protocol: row.protocol.clone(),
        train_bias: None,
        eval_bias: None,
        side: None,
        seed: request.seed,
        dtype: request.dtype.to_string(),
        device: request.device.kind().to_owned(),
        limit: request.limit,
        chunk: request.batch_tokens,
        max_memory: request.max_memory,
        // Benchmarks but those of editing put their prompts bare.
        template: match benchmark.identity.task() {
            Some(_) => row.template.clone(),
            None => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_benchmarks_may_name_parts() {
        let list = Chosen::list("stereoset:intrasentence,bbq:Age,Religion").expect("known");
        let chosen = |name: &str, parts: &[&str]| Chosen {
            name: name.to_owned(),
            parts: parts.iter().map(|part| (*part).to_owned()).collect(),
        };
        assert_eq!(
            list,
            [
                chosen("stereoset", &["intrasentence"]),
                chosen("bbq", &["Age", "Religion"])
            ]
        );
        assert_eq!(Chosen::list("bbq").expect("known"), [chosen("bbq", &[])]);
        let error = Chosen::list("stereoste").expect_err("a typo").to_string();
        assert!(error.contains("did you mean `stereoset`"), "{error}");
    }
}
