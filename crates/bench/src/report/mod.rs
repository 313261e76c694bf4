//! What a finished run says: pure functions of the store, without model, network or clock.

pub mod chart;
pub mod curve;
pub mod evaluation;
pub(crate) mod grid;
mod json;
pub mod merges;
pub mod retention;
mod sentence;
mod table;

use std::collections::BTreeMap;

use debias_core::{CellKey, CellResult, FORMAT, ItemLine, Norm, Task};
use serde::Serialize;

pub use grid::grid;
pub use json::{Json, printed};
pub use sentence::closing_sentence;
pub use table::Table;
pub(crate) use table::percent;

/// The object that `bench run --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunObject {
    /// `major.minor` of this shape.
    pub format: String,
    /// The suite.
    pub suite: Option<String>,
    /// The suite's edition.
    pub edition: Option<String>,
    /// The run folder.
    pub run: String,
    /// The cells, in the order of the plan.
    #[serde(serialize_with = "json::cells")]
    pub cells: Vec<CellResult>,
}

impl RunObject {
    /// The object of one run; `published` holds the suite and its edition.
    pub fn new(published: Option<(&str, &str)>, run: String, cells: Vec<CellResult>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            suite: published.map(|(suite, _)| suite.to_owned()),
            edition: published.map(|(_, edition)| edition.to_owned()),
            run,
            cells,
        }
    }
}

/// Everything a report is made from.
#[derive(Clone, Debug)]
pub struct Report {
    /// The printed object.
    pub run: RunObject,
    /// Record lines of the finished cells.
    pub lines: BTreeMap<CellKey, Vec<ItemLine>>,
    /// Normalisation of the headline columns.
    pub norm: Norm,
    /// Where the multimodal-locality items come from, when that is a stand-in.
    pub stand_in: Option<String>,
    /// What a reader must know about models and data, one sentence each.
    pub remarks: Vec<String>,
}

/// The parts of the benchmark that cells ask, each once: tasks in their order, others as they come.
pub(crate) fn parts<'c>(cells: impl IntoIterator<Item = &'c CellResult>) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for cell in cells {
        let part = cell.part();
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts.sort_by_key(|part| Task::ALL.into_iter().position(|task| task.name() == part));
    parts
}

/// A form of a report.
pub trait Exporter {
    /// The whole report as text.
    fn export(&self, report: &Report) -> String;
}
