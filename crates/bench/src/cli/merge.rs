//! `bench merge`: a recipe of mergekit's, carried out.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use debias_merge::{Error, Options, Outcome, Planned, Size, Watch};
use debias_model::engine::human_bytes;
use serde::Serialize;
use serde_json::{Value, json};

use super::Session;
use crate::compute::size;
use crate::models::merging::{MergeRequest, Models, refusal};
use crate::terminal::exit::Exit;
use crate::terminal::interrupt::Interrupt;
use crate::terminal::machine::{self, AnonymousPeak};
use crate::terminal::progress::Progress;

/// Merge checkpoints by a recipe; mergekit's recipes are read unchanged
///
/// What mergekit ignores in a recipe (unknown keys and parameters, a weight beside `parameters`) is
/// ignored too, with a warning that names it; with --strict it is an error.
///
/// Everything that can be known from recipe and headers is checked before the first weight is read.
/// Tensors stream from the inputs to their final place, in memory that does not grow with the
/// models; the folder appears whole or not at all. The number of threads changes no byte.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bench merge recipe.yaml merged
  bench merge recipe.yaml --check                       what would happen, and how long it takes
  bench merge recipe.yaml merged --out-shard-size 2B --max-memory 2GiB --json
  bench run --suite debias-edit --model merged          the merged folder is a model

Beyond mergekit's keys a recipe may have `seed`, and `only: [language_model]`: tensors whose names
contain none of these are copied from base_model. A module left out of `modules` is copied too.
Models are looked for among the embedded ones, from the working directory, then from the recipe's
folder. `bench list mergers` shows the methods, `bench show ties` one with its parameters.")]
pub struct Args {
    /// The recipe (YAML)
    recipe: PathBuf,
    /// The folder to write
    #[arg(required_unless_present = "check")]
    out: Option<PathBuf>,
    /// Validate and print the plan; write nothing
    #[arg(long)]
    check: bool,
    /// Refuse keys and parameters that have no effect, instead of warning of them
    #[arg(long)]
    strict: bool,
    /// Replace a checkpoint that is there already
    #[arg(long)]
    force: bool,
    /// Seed of the random methods [default: the recipe's, else 0]
    #[arg(long, value_name = "N")]
    random_seed: Option<u64>,
    /// Largest weight file, as 500M, 5B (bytes) or 4GiB
    #[arg(long, value_name = "SIZE", default_value = "5B", value_parser = size)]
    out_shard_size: u64,
    /// Most memory besides mapped files, as 600M or 2GiB; refused before any work when too small
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_memory: Option<u64>,
    /// Let NaN and infinity pass
    #[arg(long)]
    allow_nonfinite: bool,
    /// Keep masks in the place of the random methods' draws, for tests
    #[arg(long, value_name = "FILE")]
    masks: Option<PathBuf>,
    /// Worker threads; the number changes no result
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    #[command(flatten)]
    accepted: Accepted,
}

/// Flags of mergekit's that are accepted, because scripts give them, and do nothing here.
#[derive(Debug, clap::Args)]
struct Accepted {
    #[arg(long, hide = true)]
    copy_tokenizer: bool,
    #[arg(long, hide = true)]
    cuda: bool,
    #[arg(long, hide = true)]
    lazy_unpickle: bool,
    #[arg(long, hide = true)]
    allow_crimes: bool,
    #[arg(long, hide = true)]
    clone_tensors: bool,
    #[arg(long, hide = true)]
    trust_remote_code: bool,
    #[arg(long, hide = true)]
    low_cpu_memory: bool,
    #[arg(long, hide = true)]
    no_write_model_card: bool,
    #[arg(long, hide = true, value_name = "DIR")]
    lora_merge_cache: Option<PathBuf>,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    outcome: Outcome,
    wall_s: f64,
    /// Most anonymous memory: what the merge itself takes.
    peak_bytes: u64,
    /// Most resident memory, mapped files included.
    peak_resident_bytes: u64,
}

/// Bytes of output that `--check` computes to estimate the time.
const REHEARSED: u64 = 64 << 20;

impl Args {
    pub(super) fn execute(self, session: Session) -> anyhow::Result<Exit> {
        let interrupt = Interrupt::listen().context("cannot listen for SIGINT and SIGTERM")?;
        let models = Models::of(&self.recipe);
        let recipe = models.read(&MergeRequest {
            recipe: self.recipe.clone(),
            strict: self.strict,
        })?;
        for warning in &recipe.warnings {
            session.printer.warn(warning);
        }
        self.tell_ignored(session);
        if let (Some(out), false) = (&self.out, self.check) {
            debias_weights::check_target(out, self.force)?;
        }
        let planned = Planned::new(recipe, &models, self.options()).map_err(refusal)?;
        for note in planned.notes() {
            session.printer.warn(note);
        }
        match (&self.out, self.check) {
            (Some(out), false) => self.write(session, &planned, out, &interrupt),
            _ => check(session, &planned),
        }
    }

    fn options(&self) -> Options {
        Options {
            seed: self.random_seed,
            threads: self.threads.map_or_else(machine::cores, usize::from),
            shard: self.out_shard_size,
            masks: self.masks.clone(),
            allow_nonfinite: self.allow_nonfinite,
            max_memory: self.max_memory,
        }
    }

    fn tell_ignored(&self, session: Session) {
        if self.accepted.cuda {
            session
                .printer
                .warn("--cuda has no effect: merges are bound by memory and disk");
        }
    }

    fn write(
        &self,
        session: Session,
        planned: &Planned,
        out: &std::path::Path,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Exit> {
        let progress = Progress::new(session.printer);
        let size = planned.size();
        progress.start_bytes(
            &format!("merging into {}", out.display()),
            size.bytes_written,
        );
        let peak = AnonymousPeak::watch();
        let began = Instant::now();
        let watched = Watched {
            progress: &progress,
            interrupt,
        };
        let written = planned.write(out, self.force, &watched);
        let wall_s = began.elapsed().as_secs_f64();
        progress.clear();
        let report = Report {
            outcome: match written {
                Err(Error::Interrupted) => {
                    interrupt
                        .check()
                        .map_err(|refusal| refusal.help("Nothing was written."))?;
                    return Err(Error::Interrupted.into());
                }
                written => written.map_err(refusal)?,
            },
            wall_s,
            peak_bytes: peak.bytes(),
            peak_resident_bytes: machine::peak_bytes(),
        };
        if session.json {
            session.print_json(&report)?;
            return Ok(Exit::Done);
        }
        for remark in &report.outcome.remarks {
            session.printer.note(remark);
        }
        session.printer.result(&sentence(&report, out))?;
        Ok(Exit::Done)
    }
}

struct Watched<'a> {
    progress: &'a Progress,
    interrupt: &'a Interrupt,
}

impl Watch for Watched<'_> {
    fn advance(&self, bytes: u64) {
        self.progress.advance(bytes as usize);
    }

    fn stop(&self) -> bool {
        self.interrupt.is_raised()
    }
}

fn sentence(report: &Report, out: &std::path::Path) -> String {
    let outcome = &report.outcome;
    format!(
        "{}: {} tensors, {} parameters merged by {} in {:.1} s: {} read, {} written, {} of memory besides mapped files",
        out.display(),
        outcome.tensors,
        outcome.parameters,
        outcome.method,
        report.wall_s,
        human_bytes(outcome.bytes_read),
        human_bytes(outcome.bytes_written),
        human_bytes(report.peak_bytes),
    )
}

/// Prints the plan; its time is that of a rehearsal on the first tensors, scaled up.
fn check(session: Session, planned: &Planned) -> anyhow::Result<Exit> {
    let size = planned.size();
    let began = Instant::now();
    let rehearsed = planned.rehearse(REHEARSED).map_err(refusal)?;
    let took = began.elapsed();
    let expected = took.as_secs_f64() * size.bytes_written as f64 / rehearsed.max(1) as f64;
    if session.json {
        let tensors: Vec<Value> = planned
            .tensors()
            .map(|(name, info)| {
                json!({"name": name, "dtype": info.dtype.to_string(), "shape": info.shape, "made": planned.made(name)})
            })
            .collect();
        let mut report = serde_json::to_value(size)?;
        report["method"] = planned.recipe().merger.card().id.into();
        report["expected_s"] = expected.into();
        report["plan"] = tensors.into();
        session.print_json(&report)?;
        return Ok(Exit::Done);
    }
    for (name, info) in planned.tensors() {
        let made = planned.made(name);
        session
            .printer
            .detail(&format!("{name} {} {:?} {made}", info.dtype, info.shape));
    }
    session.printer.result(&plan(planned, &size, expected))?;
    Ok(Exit::Done)
}

fn plan(planned: &Planned, size: &Size, expected: f64) -> String {
    let models: Vec<_> = planned
        .recipe()
        .models()
        .into_iter()
        .map(|m| format!("`{m}`"))
        .collect();
    let time = Duration::from_secs_f64(expected.min(1e9));
    format!(
        "{} of {}\n{} tensors, {} parameters\n{} to be read, {} to be written\n{} of memory at most besides mapped files\nabout {:.1} s of computing, by a rehearsal; the disk may take longer\nnothing was written; -v lists every tensor with its parameters",
        planned.recipe().merger.card().id,
        models.join(", "),
        size.tensors,
        size.parameters,
        human_bytes(size.bytes_read),
        human_bytes(size.bytes_written),
        human_bytes(size.memory),
        time.as_secs_f64(),
    )
}
