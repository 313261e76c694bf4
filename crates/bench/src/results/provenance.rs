//! `run.json`: the printed object, and where its numbers come from.

use debias_core::Identity;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::planner::Planned;
use crate::report::RunObject;
use crate::runner::GroupCost;
use crate::terminal::machine::Machine;

/// The file `run.json`.
#[derive(Clone, Debug, Serialize)]
pub struct RunFile {
    /// What `--json` prints, with every stored cell of the plan.
    #[serde(flatten)]
    pub object: RunObject,
    /// Everything that is no result.
    pub provenance: Provenance,
}

/// Where, when, with what and how fast; no part of a key.
#[derive(Clone, Debug, Serialize)]
pub struct Provenance {
    /// Version of this program.
    pub bench: String,
    /// The command as typed.
    pub command: Vec<String>,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// Worker threads.
    pub threads: usize,
    /// The machine.
    pub host: Machine,
    /// The merged configuration.
    pub config: Value,
    /// Digests of the models.
    pub models: Vec<Identity>,
    /// Digests of the data.
    pub data: Vec<DataNote>,
    /// Seeds.
    pub seeds: Vec<u64>,
    /// What the never-edited models cost in this invocation.
    pub groups: Vec<GroupCost>,
    /// Passes through models in this invocation; none where stored lines were only measured again.
    pub passes: u64,
    /// What a reader must know.
    pub remarks: Vec<String>,
    /// Begin of this invocation, UTC.
    pub started: String,
    /// End of this invocation; absent while it runs or when it was interrupted.
    pub finished: Option<String>,
}

/// The data of a run.
#[derive(Clone, Debug, Serialize)]
pub struct DataNote {
    /// Name and digest.
    #[serde(flatten)]
    pub identity: Identity,
    /// Seed of wordings and pairings.
    pub seed: u64,
    /// Where the multimodal-locality items come from.
    pub m_locality: String,
}

impl Provenance {
    /// The provenance of an invocation that begins now.
    pub fn begin(planned: &Planned, threads: usize) -> Self {
        Self {
            bench: env!("CARGO_PKG_VERSION").to_owned(),
            command: std::env::args().collect(),
            device: planned.device.to_string(),
            threads,
            host: Machine::here(),
            config: planned.config(),
            models: planned
                .models
                .iter()
                .map(|model| model.identity.clone())
                .collect(),
            data: planned
                .data
                .iter()
                .map(|data| DataNote {
                    identity: data.identity.clone(),
                    seed: data.seed,
                    m_locality: data.collection.m_locality_source().to_owned(),
                })
                .collect(),
            seeds: planned.suite.seeds.clone(),
            groups: Vec::new(),
            passes: 0,
            remarks: planned.remarks.clone(),
            started: now(),
            finished: None,
        }
    }

    /// The same, finished now.
    #[must_use]
    pub fn finish(self, groups: Vec<GroupCost>) -> Self {
        Self {
            groups,
            passes: debias_model::passes(),
            finished: Some(now()),
            ..self
        }
    }
}

fn now() -> String {
    Timestamp::now().to_string()
}
