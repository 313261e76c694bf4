//! `bench doctor`: what this machine can run.

use debias_data::benchmarks::{self, Benchmark};
use debias_data::datasets;
use debias_model::device::{self, DeviceName, GraphicsCard, NoCard, Placement};
use debias_model::engine::human_bytes;
use serde_json::{Value, json};

use super::Session;
use crate::models;
use crate::roots::{Roots, VARIABLE};
use crate::terminal::exit::Exit;
use crate::terminal::machine::{self, Machine};

/// Show what this machine can run: devices, memory, threads, data found, versions
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bench doctor
  bench doctor --data pairs=/data/pairs --json")]
pub struct Args {
    /// Where a dataset is; else DEBIAS_BENCH_DATA, else the cache folder (repeatable)
    #[arg(long, value_name = "NAME=DIR")]
    data: Vec<String>,
}

/// Whether something is there, and what the program says of it.
struct Finding {
    name: String,
    problem: Option<String>,
    about: String,
}

impl Args {
    pub(super) fn execute(self, session: Session) -> anyhow::Result<Exit> {
        let roots = Roots::new(&self.data)?;
        let machine = Machine::here();
        let cards = device::cards();
        let models: Vec<_> = models::embedded().iter().map(model).collect();
        let data: Vec<_> = datasets::ALL
            .iter()
            .map(|dataset| finding(*dataset, &roots))
            .collect();
        let benchmarks: Vec<_> = benchmarks::ALL
            .iter()
            .map(|benchmark| benchmark_finding(*benchmark, &roots))
            .collect();
        match session.json {
            true => session.print_json(&json!({
                "bench": env!("CARGO_PKG_VERSION"),
                "host": machine,
                "available_bytes": machine::available_bytes(),
                "devices": devices(&cards),
                "data_folder": roots.common().map(|dir| dir.display().to_string()),
                "models": findings(&models),
                "datasets": findings(&data),
                "benchmarks": findings(&benchmarks),
            }))?,
            false => session.printer.result(&text(
                &machine,
                &cards,
                &roots,
                [&models, &data, &benchmarks],
            ))?,
        }
        Ok(Exit::Done)
    }
}

fn model(model: &models::Embedded) -> Finding {
    let opened = models::ModelSource::resolve(model.name())
        .map_err(anyhow::Error::from)
        .and_then(|source| crate::planner::open(&source, &Placement::default()));
    Finding {
        name: model.name().to_owned(),
        about: "embedded".to_owned(),
        problem: opened.err().map(|error| format!("{error:#}")),
    }
}

fn finding(dataset: &dyn debias_data::Dataset, roots: &Roots) -> Finding {
    let name = dataset.card().name.clone();
    let place = roots.given(&name).or(roots.common());
    let generated = roots.given(&name).is_none() && dataset.open(None, 0).is_ok();
    Finding {
        about: match (generated, place) {
            (true, _) => "generated, needs no file".to_owned(),
            (false, Some(dir)) => dir.display().to_string(),
            (false, None) => "no folder".to_owned(),
        },
        problem: roots.open(dataset, 0).err().map(|error| error.to_string()),
        name,
    }
}

/// Whether the files of a benchmark are there and can be read.
fn benchmark_finding(benchmark: &dyn Benchmark, roots: &Roots) -> Finding {
    let card = benchmark.card();
    let place = roots.given(&card.name).or(roots.common());
    let opened = roots
        .source(benchmark)
        .ok_or_else(|| card.needs_data())
        .and_then(|source| benchmark.open(&source, &[], None, 0));
    Finding {
        name: card.name.clone(),
        about: place.map_or_else(|| "no folder".to_owned(), |dir| dir.display().to_string()),
        problem: opened.err().map(|error| error.to_string()),
    }
}

fn findings(findings: &[Finding]) -> Vec<Value> {
    findings
        .iter()
        .map(|found| {
            json!({
                "name": found.name,
                "usable": found.problem.is_none(),
                "about": found.about,
                "problem": found.problem,
            })
        })
        .collect()
}

/// The processor, and every card or why there is none.
fn devices(cards: &Result<Vec<GraphicsCard>, NoCard>) -> Vec<Value> {
    let cpu = json!({"name": "cpu", "usable": true});
    let found = match cards {
        Err(missing) => vec![json!({
            "name": "cuda", "usable": false, "problem": missing.to_string(),
        })],
        Ok(cards) => cards.iter().map(card_value).collect(),
    };
    [cpu].into_iter().chain(found).collect()
}

fn card_value(card: &GraphicsCard) -> Value {
    let (major, minor) = card.capability;
    json!({
        "name": DeviceName::Cuda(card.index).to_string(),
        "usable": true,
        "about": card.name,
        "capability": format!("{major}.{minor}"),
        "memory_bytes": card.total_bytes,
        "free_bytes": card.free_bytes,
    })
}

fn card_line(card: &GraphicsCard) -> String {
    let (major, minor) = card.capability;
    format!(
        "  {}: usable ({}, compute capability {major}.{minor}, {} of {} free)",
        DeviceName::Cuda(card.index),
        card.name,
        human_bytes(card.free_bytes),
        human_bytes(card.total_bytes)
    )
}

fn text(
    machine: &Machine,
    cards: &Result<Vec<GraphicsCard>, NoCard>,
    roots: &Roots,
    [models, data, benchmarks]: [&[Finding]; 3],
) -> String {
    let unknown = || "unknown".to_owned();
    let bytes = |bytes: Option<u64>| bytes.map_or_else(unknown, human_bytes);
    let mut lines = vec![
        format!("bench {}", env!("CARGO_PKG_VERSION")),
        format!("system: {} {}", machine.os, machine.arch),
        format!("processor: {}", machine.cpu.clone().unwrap_or_else(unknown)),
        format!("threads: {}", machine.cores),
        format!(
            "memory: {}, {} available",
            bytes(machine.memory_bytes),
            bytes(machine::available_bytes())
        ),
        "devices:".to_owned(),
        "  cpu: usable".to_owned(),
    ];
    match cards {
        Ok(cards) => lines.extend(cards.iter().map(card_line)),
        Err(missing) => lines.push(format!("  cuda: not usable: {missing}")),
    }
    lines.extend([
        match roots.common() {
            Some(dir) => format!("data folder: {}", dir.display()),
            None => format!("data folder: none; set {VARIABLE} or give --data NAME=DIR"),
        },
        "models:".to_owned(),
    ]);
    lines.extend(models.iter().map(line));
    lines.push("datasets:".to_owned());
    lines.extend(data.iter().map(line));
    lines.push("benchmarks:".to_owned());
    lines.extend(benchmarks.iter().map(line));
    lines.join("\n")
}

fn line(found: &Finding) -> String {
    match &found.problem {
        None => format!("  {}: usable ({})", found.name, found.about),
        Some(problem) => format!("  {}: not usable: {problem}", found.name),
    }
}
