//! The flags by which `run`, `plan` and `edit` choose what is run.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use debias_core::{Mode, Preset, Shard, Task};

use crate::compute::{Compute, MemoryLimit, Numbers};
use crate::planner::{Batches, Command, Conditions, EditRequest, RunRequest};

/// How it is run; the same for a suite and for a file of requests.
#[derive(Debug, Args)]
pub struct Common {
    #[command(flatten)]
    #[allow(
        missing_docs,
        reason = "a doc comment would become the help of the flattened flags"
    )]
    pub compute: Compute,
    #[command(flatten)]
    #[allow(
        missing_docs,
        reason = "a doc comment would become the help of the flattened flags"
    )]
    pub numbers: Numbers,
    #[command(flatten)]
    #[allow(
        missing_docs,
        reason = "a doc comment would become the help of the flattened flags"
    )]
    pub memory: MemoryLimit,
    /// An editor of your own: a command that is asked in JSON lines, `external` in the results
    #[arg(long, value_name = "COMMAND")]
    pub command: Option<String>,
    /// How long the command may take for an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: u32,
    /// Only the first N admitted records of each task
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Seed of every random stream, in place of the suite's own
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Requests per edit, in place of the suite's own (repeatable)
    #[arg(long = "batch", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub batches: Vec<u32>,
    /// How a batch becomes one edit (repeatable; both unless given)
    #[arg(long = "mode", value_enum, value_name = "MODE")]
    pub modes: Vec<ModeName>,
    /// Edit without end and score each record N edits after its own (repeatable)
    #[arg(long = "gap", value_name = "N")]
    pub gaps: Vec<u32>,
    /// Where run folders are kept
    #[arg(short, long, value_name = "DIR", default_value = "results")]
    pub out: PathBuf,
    /// A setting, e.g. ft-l.steps=25, scorer.norm=sum, filter.contexts=0 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// The bundle of settings to start from, in place of the suite's own
    #[arg(long, value_enum)]
    pub preset: Option<PresetName>,
}

impl Common {
    /// The same in plain values, the devices open.
    ///
    /// # Errors
    /// A device that this build or this machine does not have.
    pub(super) fn conditions(&self) -> anyhow::Result<Conditions> {
        let number = |number: &u32| *number as usize;
        let command = self.command.as_ref().map(|line| Command {
            line: line.clone(),
            timeout: Duration::from_secs(self.timeout.into()),
        });
        Ok(Conditions {
            placement: self.compute.placement(self.memory.max_memory)?,
            device: self.compute.device,
            dtype: self.numbers.dtype,
            max_memory: self.memory.max_memory,
            command,
            limit: self.limit.as_ref().map(number),
            seed: self.seed,
            batches: Batches {
                sizes: self.batches.iter().map(number).collect(),
                modes: self.modes.iter().map(|mode| Mode::from(*mode)).collect(),
                gaps: self.gaps.iter().map(number).collect(),
            },
            out: self.out.clone(),
            settings: self.settings.clone(),
            preset: self.preset.map(Preset::from),
        })
    }
}

/// A mode on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeName {
    /// Every request at the never-edited weights, the edits added
    Joint,
    /// Every request at the weights that the ones before it left
    Sequential,
}

impl From<ModeName> for Mode {
    fn from(name: ModeName) -> Self {
        match name {
            ModeName::Joint => Mode::Joint,
            ModeName::Sequential => Mode::Sequential,
        }
    }
}

/// What to run.
#[derive(Debug, Args)]
pub struct Selection {
    /// A suite by name, or a suite file ending in .toml
    #[arg(long, value_name = "NAME|FILE")]
    pub suite: String,
    /// Only this model: a name, or a Hugging Face folder (repeatable)
    #[arg(long = "model", value_name = "ID|DIR")]
    pub models: Vec<String>,
    /// Only this editor (repeatable); leaves out the suite's mergers
    #[arg(long = "editor", value_name = "NAME")]
    pub editors: Vec<String>,
    /// Only this merger of the suite (repeatable); with --editor, only these and those
    #[arg(long = "merger", value_name = "NAME")]
    pub mergers: Vec<String>,
    /// Only this task (repeatable)
    #[arg(long = "task", value_enum, value_name = "TASK")]
    pub tasks: Vec<TaskName>,
    /// The data to run on, in place of the suite's own
    #[arg(long, value_name = "NAME")]
    pub dataset: Option<String>,
    /// Where a dataset is; else DEBIAS_BENCH_DATA, else the cache folder (repeatable)
    #[arg(long, value_name = "NAME=DIR")]
    pub data: Vec<String>,
    #[command(flatten)]
    #[allow(
        missing_docs,
        reason = "a doc comment would become the help of the flattened flags"
    )]
    pub common: Common,
    /// Only part I of N of the plan, e.g. 3/16; all parts share one run folder
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
}

/// Which requests are edited, by what, and what is learnt before.
#[derive(Debug, Args)]
pub struct Requested {
    /// The edit requests: a JSON list with EasyEdit's keys, this project's, or both
    #[arg(value_name = "FILE", required_unless_present = "requests")]
    pub file: Option<PathBuf>,
    /// The same by a flag
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    pub requests: Option<PathBuf>,
    /// The model: a name, or a Hugging Face folder (repeatable)
    #[arg(long = "model", value_name = "ID|DIR", required = true)]
    pub models: Vec<String>,
    /// The editor
    #[arg(
        long,
        value_name = "NAME",
        required_unless_present = "command",
        conflicts_with = "command"
    )]
    pub editor: Option<String>,
    /// Only this task; also that of requests that do not say theirs, as EasyEdit's do not
    #[arg(long, value_enum, value_name = "TASK")]
    pub task: Option<TaskName>,
    /// The folder that pictures are relative to; else that of the file
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// The folder that rephrased pictures are relative to; else as --images
    #[arg(long, value_name = "DIR")]
    pub rephrase_images: Option<PathBuf>,
    /// Requests to learn from; else those of FILE with "split": "train"
    #[arg(long, value_name = "FILE")]
    pub train: Option<PathBuf>,
    #[command(flatten)]
    #[allow(
        missing_docs,
        reason = "a doc comment would become the help of the flattened flags"
    )]
    pub common: Common,
}

impl Selection {
    /// The same in plain values.
    ///
    /// # Errors
    /// A device that this build or this machine does not have.
    pub(super) fn request(&self) -> anyhow::Result<RunRequest> {
        Ok(RunRequest {
            suite: self.suite.clone(),
            models: self.models.clone(),
            editors: self.editors.clone(),
            mergers: self.mergers.clone(),
            tasks: self.tasks.iter().map(|task| Task::from(*task)).collect(),
            dataset: self.dataset.clone(),
            data: self.data.clone(),
            shard: self.shard,
            conditions: self.common.conditions()?,
        })
    }
}

impl Requested {
    /// The same in plain values.
    ///
    /// # Errors
    /// A device that this build or this machine does not have.
    pub(super) fn request(&self) -> anyhow::Result<EditRequest> {
        let path = self.file.as_ref().or(self.requests.as_ref());
        Ok(EditRequest {
            path: path
                .cloned()
                .context("the parser asks for one of the two")?,
            models: self.models.clone(),
            editor: self.editor.clone(),
            ids: Vec::new(),
            task: self.task.map(Task::from),
            images: self.images.clone(),
            rephrase_images: self.rephrase_images.clone(),
            train: self.train.clone(),
            conditions: self.common.conditions()?,
        })
    }
}

/// A task on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TaskName {
    /// Image captioning
    Ic,
    /// Visual question answering
    Vqa,
    /// Text alone
    Text,
}

impl From<TaskName> for Task {
    fn from(name: TaskName) -> Self {
        match name {
            TaskName::Ic => Task::Ic,
            TaskName::Vqa => Task::Vqa,
            TaskName::Text => Task::Text,
        }
    }
}

/// A preset on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PresetName {
    /// This project's defaults
    Project,
    /// The debias-editing paper
    Paper,
    /// Every switch as in the reference code
    #[value(name = "ref_easyedit")]
    RefEasyedit,
}

impl From<PresetName> for Preset {
    fn from(name: PresetName) -> Self {
        match name {
            PresetName::Project => Preset::Project,
            PresetName::Paper => Preset::Paper,
            PresetName::RefEasyedit => Preset::RefEasyedit,
        }
    }
}
