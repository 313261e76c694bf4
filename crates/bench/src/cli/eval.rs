//! `bench eval`: published benchmarks on any model.

use std::path::PathBuf;

use anyhow::Context;
use debias_core::Status;

use super::Session;
use super::variant::{How, VariantArgs};
use crate::asking::{VariantRequest, threads};
use crate::compute::{Compute, MemoryLimit, Numbers};
use crate::planner::{Chosen, EvalRequest, PlannedEval};
use crate::report::evaluation::{json, table};
use crate::runner::Evaluation;
use crate::terminal::exit::Exit;
use crate::terminal::interrupt::Interrupt;

/// The seed of published samples, where none is given.
const SEED: u64 = 2024;

/// Ask published benchmarks of models: cells, lines per item, intervals
///
/// The same command again goes on where the last one stopped, within a benchmark too; nothing is asked
/// twice unless --fresh is given. Prompts are asked as they stand, by the rules of lm-eval. With
/// --editor and --edit, or --merge, each model is asked edited or merged; with --before, unchanged too.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bench eval --benchmark stereoset --model path/to/gpt2
  bench eval --benchmark stereoset:intrasentence,bbq:Age,Religion --model path/to/a --model path/to/b
  bench eval --benchmark bbq --model tiny-blip2 --limit 5 --data bbq=/data/bbq --json
  bench eval --benchmark stereoset --model path/to/gpt2 --editor ft-l --edit requests.json --before

bench list benchmarks shows what there is; bench show bbq says what it needs and where it comes from.")]
pub struct Args {
    /// Benchmarks, with parts of them behind a colon (repeatable)
    #[arg(long = "benchmark", value_name = "NAME[:PART,…],…", required = true)]
    benchmarks: Vec<String>,
    /// The model: a name, or a Hugging Face folder (repeatable)
    #[arg(long = "model", value_name = "ID|DIR", required = true)]
    models: Vec<String>,
    #[command(flatten)]
    variant: VariantArgs,
    /// Where a benchmark is; else DEBIAS_BENCH_DATA, else the cache folder (repeatable)
    #[arg(long, value_name = "NAME=DIR")]
    data: Vec<String>,
    /// Only N of each stratum, clusters whole: bias types, categories
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Seed of what --limit draws and of the intervals [default: 2024], and of an edit [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where run folders and trained parts of editors are kept
    #[arg(short, long, value_name = "DIR", default_value = "results")]
    out: PathBuf,
    /// Tokens per batch, padding included; changes last bits only
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..))]
    batch_tokens: u32,
    /// Worker threads; the number changes no result
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Ask again what is already stored
    #[arg(long)]
    fresh: bool,
    #[command(flatten)]
    memory: MemoryLimit,
    #[command(flatten)]
    numbers: Numbers,
    #[command(flatten)]
    compute: Compute,
}

impl Args {
    pub(super) fn execute(self, session: Session) -> anyhow::Result<Exit> {
        let interrupt = Interrupt::listen().context("cannot listen for SIGINT and SIGTERM")?;
        if let Some(threads) = self.threads {
            // Fails only where a pool exists already, and then it is the same one.
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.into());
            let _ = pool.build_global();
        }
        let fresh = self.fresh;
        let planned = PlannedEval::new(self.request()?, &interrupt)?;
        planned.folder.check_writable()?;
        let outcome = Evaluation::new(&planned, fresh, &interrupt, session.printer).run()?;
        let object = json(&planned, &outcome.cells)?;
        if outcome.computed > 0 || !planned.folder.has_run() {
            planned.folder.write_run(&object)?;
        }
        if session.json {
            session.print_json(&object)?;
        } else {
            session.printer.result(&table(&planned, &outcome.cells))?;
        }
        let failed = |cell: &debias_core::CellResult| cell.status == Status::Failed;
        Ok(if outcome.cells.iter().any(failed) {
            Exit::CellsFailed
        } else {
            Exit::Done
        })
    }

    fn request(self) -> anyhow::Result<EvalRequest> {
        let lists = self.benchmarks.iter().map(|list| Chosen::list(list));
        let benchmarks = lists.collect::<debias_data::Result<Vec<_>>>()?;
        let rows = self.rows()?;
        Ok(EvalRequest {
            benchmarks: benchmarks.concat(),
            rows,
            data: self.data,
            limit: self.limit.map(|limit| limit as usize),
            seed: self.seed.unwrap_or(SEED),
            out: self.out,
            placement: self.compute.placement(self.memory.max_memory)?,
            device: self.compute.device,
            dtype: self.numbers.dtype,
            max_memory: self.memory.max_memory,
            batch_tokens: self.batch_tokens as usize,
            threads: threads(self.threads),
        })
    }

    /// Each model as it is, unless a variant of it is wanted alone, and the variant.
    fn rows(&self) -> anyhow::Result<Vec<(String, VariantRequest)>> {
        let how = How {
            compute: &self.compute,
            numbers: &self.numbers,
            max_memory: self.memory.max_memory,
            seed: self.seed,
            out: &self.out,
        };
        let mut rows = Vec::new();
        for name in &self.models {
            let variant = self.variant.of(name, &how)?;
            if variant.is_none() || self.variant.before() {
                rows.push((name.clone(), VariantRequest::Itself));
            }
            rows.extend(variant.map(|variant| (name.clone(), variant)));
        }
        Ok(rows)
    }
}
