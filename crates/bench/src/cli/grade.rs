//! `bench grade`: a benchmark's scorer alone, on outputs that somebody stored.

use std::collections::BTreeMap;
use std::path::PathBuf;

use debias_core::{Better, Column, Estimate, ItemLine, Norm, measure, seed};
use debias_data::benchmarks::{self, Benchmark, Graded, undefined};
use serde_json::{Map, Value, json};

use super::Session;
use crate::report::evaluation::metric;
use crate::report::grid;
use crate::roots::Roots;
use crate::terminal::exit::Exit;

/// Score stored outputs of a benchmark, without a model
///
/// BBQ: JSON lines with `record` (the whole row) or `category` and `example_id`, and `loglik_12`,
/// `loglik_3` or both; or a table `category,example_id,pred`. StereoSet: JSON lines with
/// `example_id`, `subtask`, `bias_type`, `target`, `score_stereotype`, `score_anti_stereotype` and
/// `score_unrelated`; or the published files of predictions by sentence id. Any benchmark: the record lines of a run,
/// `cells/<key>.jsonl`. Files may be gzipped.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bench grade bbq outputs.jsonl --data bbq=/data/bbq
  bench grade stereoset predictions_gpt2.json.gz --data stereoset=/data/stereoset --json")]
pub struct Args {
    /// The benchmark, as in `bench list benchmarks`
    name: String,
    /// Files of outputs
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where a benchmark is; else DEBIAS_BENCH_DATA, else the cache folder (repeatable)
    #[arg(long, value_name = "NAME=DIR")]
    data: Vec<String>,
}

/// What one model's outputs give.
struct Scored<'g> {
    name: &'g str,
    lines: &'g [ItemLine],
    metrics: BTreeMap<String, Estimate>,
}

impl Args {
    pub(super) fn execute(self, session: Session) -> anyhow::Result<Exit> {
        let benchmark = benchmarks::find(&self.name)?;
        let source = Roots::new(&self.data)?.source(benchmark);
        let graded = benchmarks::graded(benchmark, &self.files, source.as_ref())?;
        let scored = graded.sets.iter().map(|(name, lines)| {
            // The same draws for all sets, so that their differences are paired.
            let draws = seed::stream(0, &["bootstrap", &self.name]);
            let metrics = measure(benchmark.columns(), lines, Norm::Sum, draws)?;
            Ok(Scored {
                name,
                lines,
                metrics,
            })
        });
        let scored: Vec<Scored> = scored.collect::<debias_core::Result<_>>()?;
        if session.json {
            session.print_json(&object(benchmark, &graded, &scored))?;
        } else {
            session.printer.result(&text(benchmark, &graded, &scored))?;
        }
        Ok(Exit::Done)
    }
}

/// The object of the command-line contract. Where several models were graded, the name of each
/// stands before the ids of its metrics.
fn object(benchmark: &dyn Benchmark, graded: &Graded, scored: &[Scored]) -> Value {
    let mut metrics = Map::new();
    for one in scored {
        for column in benchmark.columns() {
            let id = match scored.len() {
                1 => column.id.to_owned(),
                _ => format!("{}/{}", one.name, column.id),
            };
            let value = metric(column, one.metrics.get(column.id), one.lines);
            metrics.insert(id, value);
        }
    }
    json!({
        "benchmark": benchmark.card().name,
        "version": benchmark.card().version,
        "n": scored.iter().map(|one| one.lines.len()).sum::<usize>(),
        "official": graded.official,
        "notes": graded.notes,
        "metrics": metrics,
        "figures": graded.figures,
    })
}

/// One table per model, the closing sentence of each, and what must be said of the data.
fn text(benchmark: &dyn Benchmark, graded: &Graded, scored: &[Scored]) -> String {
    let mut sections = Vec::new();
    for one in scored {
        sections.push(format!("{}: {} items", one.name, one.lines.len()));
        sections.push(table(benchmark, one));
        sections.extend(absent(benchmark, one));
        sections.extend(benchmark.sentence(&one.metrics));
    }
    sections.push(format!(
        "Percent with 95% intervals (bootstrap over clusters of items). bench show {} explains the columns.",
        benchmark.card().name
    ));
    if !graded.official {
        sections.push("* Not the benchmark as released; see the notes.".to_owned());
    }
    sections.extend(graded.notes.iter().map(|note| format!("Note: {note}.")));
    sections.join("\n\n")
}

/// Every column that has a value.
fn table(benchmark: &dyn Benchmark, one: &Scored) -> String {
    let rows = benchmark.columns().iter().filter_map(|column| {
        let estimate = one.metrics.get(column.id)?;
        let percent = |share: f64| format!("{:.2}", 100.0 * share);
        let better = match column.better {
            Better::Higher => "higher",
            Better::Lower => "lower",
            Better::Neutral => "",
        };
        Some([
            column.id.to_owned(),
            better.to_owned(),
            percent(estimate.value),
            format!("{} – {}", percent(estimate.low), percent(estimate.high)),
            estimate.n.to_string(),
        ])
    });
    grid(["Metric", "Better", "Value", "Interval", "n"], rows)
}

/// Which columns of the headline have no value, and why; those of parts that were not asked for
/// stand in `--json` alone.
fn absent(benchmark: &dyn Benchmark, one: &Scored) -> Option<String> {
    let shown = |column: &&Column| benchmark.headline().contains(&column.id);
    let absent = benchmark.columns().iter().filter(shown);
    let absent = absent.filter(|column| !one.metrics.contains_key(column.id));
    let said: Vec<String> = absent
        .map(|column| format!("{}: {}", column.id, undefined(column, one.lines)))
        .collect();
    (!said.is_empty()).then(|| format!("Not defined:\n  {}", said.join("\n  ")))
}
