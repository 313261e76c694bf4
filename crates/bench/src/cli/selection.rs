//! The flags by which `run` and `plan` choose what is run.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use debias_core::{Preset, Shard, Task};

use crate::compute::{Compute, Numbers};

/// What to run.
#[derive(Debug, Args)]
pub struct Selection {
    /// A suite by name, or a suite file ending in .toml
    #[arg(long, value_name = "NAME|FILE")]
    pub suite: String,
    /// Only this model: a name, or a Hugging Face folder (repeatable)
    #[arg(long = "model", value_name = "ID|DIR")]
    pub models: Vec<String>,
    /// Only this editor (repeatable)
    #[arg(long = "editor", value_name = "NAME")]
    pub editors: Vec<String>,
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
    pub compute: Compute,
    #[command(flatten)]
    #[allow(
        missing_docs,
        reason = "a doc comment would become the help of the flattened flags"
    )]
    pub numbers: Numbers,
    /// Only the first N admitted records of each task
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Seed of every random stream, in place of the suite's own
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Where run folders are kept
    #[arg(short, long, value_name = "DIR", default_value = "results")]
    pub out: PathBuf,
    /// Only part I of N of the plan, e.g. 3/16; all parts share one run folder
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// A setting, e.g. ft-l.steps=25, scorer.norm=sum, filter.contexts=0 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// The bundle of settings to start from, in place of the suite's own
    #[arg(long, value_enum)]
    pub preset: Option<PresetName>,
}

/// A task on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TaskName {
    /// Image captioning
    Ic,
    /// Visual question answering
    Vqa,
}

impl From<TaskName> for Task {
    fn from(name: TaskName) -> Self {
        match name {
            TaskName::Ic => Task::Ic,
            TaskName::Vqa => Task::Vqa,
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
