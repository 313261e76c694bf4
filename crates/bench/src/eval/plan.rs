//! Which benchmarks, of which models: names checked, files read, cells named.

use std::path::PathBuf;

use debias_core::{
    BenchmarkIdentity, Cell, FORMAT_MAJOR, Identity, Plan, Preset, Protocol, Variant,
};
use debias_data::benchmarks::{self, Benchmark, Opened};
use debias_model::Model;
use debias_model::device::{DeviceName, Placement};

use crate::compute::Dtype;
use crate::exit::Exit;
use crate::failure::Refusal;
use crate::models::ModelSource;
use crate::roots::Roots;
use crate::store::RunFolder;

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
    /// Models: names or folders.
    pub models: Vec<String>,
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
}

/// A model of the plan.
pub struct PlannedModel {
    /// Where it comes from.
    pub source: ModelSource,
    /// Name and digest.
    pub identity: Identity,
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
    /// The models.
    pub models: Vec<PlannedModel>,
    /// The benchmarks.
    pub benchmarks: Vec<PlannedBenchmark>,
    /// All cells: model by model.
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
    /// An unknown name or part, data that are not there or cannot be read, a model that cannot be used.
    pub fn new(request: EvalRequest) -> anyhow::Result<Self> {
        let roots = Roots::new(&request.data)?;
        let chosen = request.benchmarks.iter();
        let benchmarks = chosen.map(|chosen| opened(chosen, &roots, &request));
        let benchmarks = benchmarks.collect::<anyhow::Result<Vec<_>>>()?;
        let models = models(&request)?;
        let mut cells = Vec::with_capacity(models.len() * benchmarks.len());
        for model in &models {
            for benchmark in &benchmarks {
                cells.push(cell(model, benchmark, &request));
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
            models,
            benchmarks,
            plan,
            request,
        })
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

fn models(request: &EvalRequest) -> anyhow::Result<Vec<PlannedModel>> {
    let mut models: Vec<PlannedModel> = Vec::with_capacity(request.models.len());
    for name in &request.models {
        let source = ModelSource::resolve(name)?;
        let checkpoint = source.checkpoint()?;
        let model = Model::open_across(&checkpoint, &request.placement)?;
        let identity = Identity {
            id: model.name().to_owned(),
            digest: checkpoint.digest()?,
        };
        if models.iter().any(|other| other.identity.id == identity.id) {
            return Err(Refusal::new(
                Exit::Usage,
                format!("two models are called `{}`", identity.id),
            )
            .help("Rename one of the folders; rows are told apart by name.")
            .into());
        }
        models.push(PlannedModel { source, identity });
    }
    Ok(models)
}

fn cell(model: &PlannedModel, benchmark: &PlannedBenchmark, request: &EvalRequest) -> Cell {
    Cell {
        format: FORMAT_MAJOR,
        suite: None,
        edition: None,
        model: model.identity.clone(),
        benchmark: benchmark.identity.clone(),
        dataset: benchmark.files.clone(),
        variant: Variant::Base,
        preset: Preset::default(),
        protocol: Protocol::default(),
        train_bias: None,
        eval_bias: None,
        side: None,
        seed: request.seed,
        dtype: request.dtype.to_string(),
        device: request.device.kind().to_owned(),
        limit: request.limit,
        chunk: request.batch_tokens,
        max_memory: request.max_memory,
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
