//! `bench tune`: trains a model or a LoRA adapter on a task.

use std::path::{Path, PathBuf};

use anyhow::Context;
use debias_model::tune::State;

use super::Session;
use crate::asking::threads;
use crate::compute::size;
use crate::roots::Roots;
use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;
use crate::terminal::interrupt::Interrupt;
use crate::terminal::printer::Printer;
use crate::terminal::progress::Progress;
use crate::tune::{Planned, Recipe, Request, Watched};

/// Train a model, or a LoRA adapter beside it, on a task
///
/// Writes a complete model folder, or an adapter folder that PEFT and `bench merge` read, with a card and
/// a loss curve; it appears whole or not at all. The same command again goes on where the last one was
/// stopped, to the same bytes; the number of threads changes none.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bench tune recipe.toml tuned --model path/to/gpt2
  bench tune recipe.toml adapter --model path/to/llama --max-memory 8GiB --json
  bench score --model tuned < lines.jsonl             the folder is a model

A recipe (keys left out have these values; kind and data are needed):
  kind = \"answers\"               # causal: every token | answers | labels: of pseudo labels
  data = \"file:items.jsonl\"      # lines {\"text\"} or {\"prompt\", \"answer\", \"image\"}, or \"stereoset\"
  # view = \"intrasentence-stereotype\"                      of stereoset
  trains = \"all\"                 # \"all\" | [\"part of a name\", …] | \"lora\"
  lora = { r = 16, alpha = 32, targets = \"decoder-linear\", also = [], from = \"adapter/to/go/on\" }
  epochs = 30                    # or updates = 600
  batch = 64
  max_length = 512
  lr = 3e-5
  schedule = \"linear\"            # linear | cosine | constant
  warmup_ratio = 0.1
  weight_decay = 0.01            # of matrices alone
  clip = 1.0
  reduction = \"tokens\"           # tokens | items
  append_eos = true
  hf_eos_mask = false
  shuffle = true
Besides: model, seed, images = \"folder\", labels = \"labels.jsonl\" ({\"id\", \"text\"}), chat = true,
validation = \"file:…\" or validation_share = 0.1, validate_every = 100. With a validation OUT gets
the best weights and OUT-last the last ones. The state of an unfinished one is kept in OUT.state.")]
pub struct Args {
    /// The recipe (TOML)
    recipe: PathBuf,
    /// The folder to write
    out: PathBuf,
    /// The model: a name, or a Hugging Face folder [default: the recipe's]
    #[arg(long, value_name = "ID|DIR")]
    model: Option<String>,
    /// Where a dataset is; else DEBIAS_BENCH_DATA, else the cache folder (repeatable)
    #[arg(long, value_name = "NAME=DIR")]
    data: Vec<String>,
    /// Seed of orders and adapters [default: the recipe's, else 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Worker threads; the number changes no result
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Most memory, as 600M or 8GiB; refused before any work when too small [default: what is free]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_memory: Option<u64>,
    /// Keep the state every N updates [default: about once a minute]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    save_every: Option<u32>,
    /// Train from the beginning, whatever an earlier attempt has left
    #[arg(long)]
    fresh: bool,
    /// Replace a checkpoint that is there already
    #[arg(long)]
    force: bool,
}

impl Args {
    pub(super) fn execute(self, session: Session) -> anyhow::Result<Exit> {
        keep_memory();
        let interrupt = Interrupt::listen().context("cannot listen for SIGINT and SIGTERM")?;
        let planned = Planned::new(self.request()?)?;
        for note in planned.notes() {
            session.printer.warn(note);
        }
        let progress = Progress::new(session.printer);
        progress.start("training", planned.updates());
        let watched = Shown {
            progress: &progress,
            printer: session.printer,
            interrupt: &interrupt,
        };
        let report = planned.train(&watched);
        progress.clear();
        let Some(report) = report? else {
            interrupt.check().map_err(|refusal| {
                refusal.help("The state is kept; the same command goes on from here.")
            })?;
            anyhow::bail!("the training ended early");
        };
        if session.json {
            session.print_json(&report)?;
        } else {
            session.printer.result(&report.sentence())?;
        }
        Ok(Exit::Done)
    }

    fn request(self) -> anyhow::Result<Request> {
        let recipe = Recipe::read(&self.recipe)?;
        let model = self.model.or_else(|| recipe.model.clone());
        let model = model.ok_or_else(|| {
            Refusal::new(Exit::Usage, "no model is given")
                .help("Give --model, or `model` in the recipe.")
        })?;
        let threads = threads(self.threads);
        // Fails only where a pool exists already, and then it is the same one.
        let _ = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global();
        Ok(Request {
            home: self.recipe.parent().unwrap_or(Path::new("")).to_owned(),
            roots: Roots::new(&self.data)?,
            seed: self.seed.unwrap_or(recipe.seed),
            recipe,
            model,
            threads,
            max_memory: self.max_memory,
            out: self.out,
            force: self.force,
            fresh: self.fresh,
            save_every: self.save_every.map(|every| every as usize),
        })
    }
}

/// Begins the program anew with an allocator that keeps what is freed. What one pass frees the next one
/// takes again, a second later; given back to the system in between, it is zeroed every time, which costs
/// a third of a training. The allocator reads this once, before anything runs.
#[cfg(unix)]
fn keep_memory() {
    use std::os::unix::process::CommandExt;
    const SETTING: &str = "MIMALLOC_PURGE_DELAY";
    if std::env::var_os(SETTING).is_some() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        let mut args = std::env::args_os();
        let name = args.next().unwrap_or_else(|| program.clone().into());
        // Comes back only where it failed; then the training is as right, and slower.
        let _ = std::process::Command::new(program)
            .arg0(name)
            .args(args)
            .env(SETTING, "-1")
            .exec();
    }
}

#[cfg(not(unix))]
fn keep_memory() {}

struct Shown<'a> {
    progress: &'a Progress,
    printer: Printer,
    interrupt: &'a Interrupt,
}

impl Watched for Shown<'_> {
    fn updated(&self, state: &State, of: usize) {
        if let Some(step) = state.steps.last() {
            self.progress.tuned(step, state.validations.last(), of);
        }
    }

    fn resumed(&self, update: usize, of: usize) {
        self.printer
            .note(&format!("going on behind update {update} of {of}"));
    }

    fn stop(&self) -> bool {
        self.interrupt.is_raised()
    }
}
