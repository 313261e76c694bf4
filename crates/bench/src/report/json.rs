//! The report as one JSON object.

use debias_core::{
    BenchmarkIdentity, CellKey, CellResult, Cost, Estimate, FilterCounts, Merged, Mode,
    RetentionPoint, Status, Variant, records_path,
};
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

use super::{Exporter, Report};

/// The object of the command-line contract, and nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Json;

impl Exporter for Json {
    fn export(&self, report: &Report) -> String {
        serde_json::to_string_pretty(&report.run)
            .expect("the object holds strings, finite numbers and string-keyed maps")
    }
}

/// A cell as it is printed: what tells it apart in plain fields, then its numbers.
#[derive(Serialize)]
struct Printed<'c> {
    key: CellKey,
    status: Status,
    error: &'c Option<String>,
    model: &'c str,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<&'static str>,
    dataset: &'c str,
    editor: &'c str,
    benchmark: &'c BenchmarkIdentity,
    variant: PrintedVariant<'c>,
    train_bias: &'c Option<String>,
    eval_bias: &'c Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    template: &'c Option<String>,
    batch: usize,
    mode: Option<Mode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gap: Option<usize>,
    side: &'c Option<String>,
    seed: u64,
    limit: Option<usize>,
    n: usize,
    failed: usize,
    #[serde(skip_serializing_if = "is_empty")]
    retention: &'c [RetentionPoint],
    #[serde(skip_serializing_if = "is_unused")]
    filter: &'c FilterCounts,
    #[serde(skip_serializing_if = "Option::is_none")]
    merge: &'c Option<Merged>,
    #[serde(skip_serializing_if = "is_empty")]
    remarks: &'c [String],
    metrics: &'c BTreeMap<String, Estimate>,
    versions: &'c BTreeMap<String, u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: &'c Option<Cost>,
    records: String,
}

/// A row in short: its settings stand in the run folder.
#[derive(Serialize)]
struct PrintedVariant<'c> {
    kind: &'static str,
    name: &'c str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
}

fn is_empty<T>(list: &&[T]) -> bool {
    list.is_empty()
}

fn is_unused(filter: &&FilterCounts) -> bool {
    filter.is_empty()
}

impl<'c> From<&'c CellResult> for Printed<'c> {
    fn from(result: &'c CellResult) -> Self {
        let cell = &result.cell;
        let (batch, mode, gap) = cell.variant.batching();
        let key = cell.key();
        let (kind, version) = match &cell.variant {
            Variant::Base => ("base", None),
            Variant::Edit { editor, .. } => ("edit", Some(editor.version)),
            Variant::Merge(merge) => ("merge", Some(merge.version)),
        };
        Self {
            records: records_path(&key),
            key,
            status: result.status,
            error: &result.error,
            model: result.model(),
            task: cell.benchmark.task().map(|task| task.name()),
            dataset: &cell.dataset.id,
            editor: result.row(),
            benchmark: &cell.benchmark,
            variant: PrintedVariant {
                kind,
                name: result.row(),
                version,
            },
            train_bias: &cell.train_bias,
            eval_bias: &cell.eval_bias,
            template: &cell.template,
            batch,
            mode,
            gap,
            side: &cell.side,
            seed: cell.seed,
            limit: cell.limit,
            n: result.n,
            failed: result.failed,
            retention: &result.retention,
            filter: &result.filter,
            merge: &result.merge,
            remarks: &result.remarks,
            metrics: &result.metrics,
            versions: &result.versions,
            cost: &result.cost,
        }
    }
}

/// A cell as it is printed.
///
/// # Errors
/// A number without a form in JSON.
pub fn printed(cell: &CellResult) -> serde_json::Result<serde_json::Value> {
    serde_json::to_value(Printed::from(cell))
}

/// Cells as they are printed.
pub(super) fn cells<S: Serializer>(cells: &[CellResult], to: S) -> Result<S::Ok, S::Error> {
    let mut list = to.serialize_seq(Some(cells.len()))?;
    for cell in cells {
        list.serialize_element(&Printed::from(cell))?;
    }
    list.end()
}
