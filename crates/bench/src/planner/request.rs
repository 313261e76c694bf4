//! What is to be planned, in plain values: the command line fills them, and so may anybody else.

use std::path::PathBuf;
use std::time::Duration;

use debias_core::{Batching, Mode, Preset, Shard, Task};
use debias_model::device::{DeviceName, Placement};

use crate::compute::Dtype;

/// How it is computed, whatever is planned.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// Where the parts of models live.
    pub placement: Placement,
    /// The device that all parts share unless placed apart.
    pub device: DeviceName,
    /// The number format computed in.
    pub dtype: Dtype,
    /// The most memory to take, if somebody says so.
    pub max_memory: Option<u64>,
    /// An editor of the user's own.
    pub command: Option<Command>,
    /// Only the first so many admitted records of each task.
    pub limit: Option<usize>,
    /// Seed of every random stream, in place of the suite's own.
    pub seed: Option<u64>,
    /// Batches in place of the suite's own.
    pub batches: Batches,
    /// Where run folders are kept.
    pub out: PathBuf,
    /// Settings, `SCOPE.KEY=VALUE`.
    pub settings: Vec<String>,
    /// The bundle of settings to start from, in place of the suite's own.
    pub preset: Option<Preset>,
}

/// A command that is asked for edits in JSON lines.
#[derive(Clone, Debug)]
pub struct Command {
    /// The command line.
    pub line: String,
    /// How long it may take for an answer.
    pub timeout: Duration,
}

/// Which batches of requests are edited together, where that is said.
#[derive(Clone, Debug, Default)]
pub struct Batches {
    /// Requests per edit.
    pub sizes: Vec<usize>,
    /// How a batch becomes one edit.
    pub modes: Vec<Mode>,
    /// Edits between a record's own and its evaluation.
    pub gaps: Vec<usize>,
}

impl Batches {
    /// The batching of a suite with these choices in place of its own.
    pub fn instead_of(&self, of_suite: &Batching) -> Batching {
        let mut batching = of_suite.clone();
        if !self.sizes.is_empty() {
            batching.sizes.clone_from(&self.sizes);
        }
        if !self.modes.is_empty() {
            batching.modes.clone_from(&self.modes);
        }
        if !self.gaps.is_empty() {
            batching.gaps.clone_from(&self.gaps);
            if self.sizes.is_empty() {
                batching.sizes.clear();
            }
        }
        batching
    }
}

/// A suite, narrowed.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// The suite by name, or a suite file.
    pub suite: String,
    /// Only these models; the suite's own where empty.
    pub models: Vec<String>,
    /// Only these editors; leaves out the suite's mergers.
    pub editors: Vec<String>,
    /// Only these mergers of the suite.
    pub mergers: Vec<String>,
    /// Only these tasks.
    pub tasks: Vec<Task>,
    /// The data to run on, in place of the suite's own.
    pub dataset: Option<String>,
    /// Where datasets are, `NAME=DIR`.
    pub data: Vec<String>,
    /// Only a part of the plan.
    pub shard: Option<Shard>,
    /// How it is computed.
    pub conditions: Conditions,
}

/// One editor on the requests of a file.
#[derive(Clone, Debug)]
pub struct EditRequest {
    /// The file of the requests.
    pub path: PathBuf,
    /// Models.
    pub models: Vec<String>,
    /// The editor; the command where there is none.
    pub editor: Option<String>,
    /// Only the requests of these ids; all where empty.
    pub ids: Vec<String>,
    /// Only this task; also that of requests that do not say theirs.
    pub task: Option<Task>,
    /// The folder that pictures are relative to; else that of the file.
    pub images: Option<PathBuf>,
    /// The folder that rephrased pictures are relative to; else as `images`.
    pub rephrase_images: Option<PathBuf>,
    /// Requests to learn from.
    pub train: Option<PathBuf>,
    /// How it is computed.
    pub conditions: Conditions,
}
