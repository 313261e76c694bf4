//! What was computed: the lines of records, and their cell as it is stored.

use std::collections::BTreeMap;
use std::iter::Sum;
use std::sync::Arc;

use debias_core::{
    Answers, Applied, Cell, CellResult, ItemLine, OWN_ANSWER, Record, RecordScores, TargetRule,
};
use debias_edit::{Edit, RecordBatch};

use crate::results::store::RecordCost;
use crate::terminal::machine;

/// A computed cell, as it is stored.
pub(super) struct Computed {
    pub(super) result: CellResult,
    pub(super) lines: Vec<ItemLine>,
    pub(super) costs: Vec<RecordCost>,
}

/// A chunk's lines with the seconds they took.
#[derive(Default)]
pub(super) struct Edited {
    pub(super) lines: Vec<ItemLine>,
    pub(super) costs: Vec<RecordCost>,
    pub(super) edit_s: f64,
    pub(super) score_s: f64,
}

impl Edited {
    /// What became of records that were edited in `edit_s` and scored in `score_s` seconds.
    pub(super) fn new(
        lines: Vec<ItemLine>,
        mut costs: Vec<RecordCost>,
        edit_s: f64,
        score_s: f64,
    ) -> Self {
        let share = score_s / costs.len().max(1) as f64;
        for cost in &mut costs {
            cost.score_s = share;
        }
        Self {
            lines,
            costs,
            edit_s,
            score_s,
        }
    }
}

impl Sum for Edited {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |mut sum, part| {
            sum.lines.extend(part.lines);
            sum.costs.extend(part.costs);
            sum.edit_s += part.edit_s;
            sum.score_s += part.score_s;
            sum
        })
    }
}

/// What a cell is called while it is computed.
pub(super) fn label(cell: &Cell) -> String {
    let (part, row) = (cell.benchmark.part(), cell.variant.name());
    format!("{} {part} {row}", cell.model.id)
}

/// The records of all `chunks`.
pub(super) fn all(chunks: &[RecordBatch]) -> Vec<Record> {
    let records = chunks.iter().flat_map(|chunk| chunk.records().to_vec());
    records.collect()
}

/// What the edits of a chunk's records cost, made together in `edit_s` seconds and not yet scored.
pub(super) fn costs(
    chunk: &RecordBatch,
    edits: &[Result<Arc<Edit>, String>],
    edit_s: f64,
) -> Vec<RecordCost> {
    let peak_bytes = machine::peak_bytes();
    let share = edit_s / edits.len().max(1) as f64;
    let records = chunk.records().iter().zip(edits);
    records
        .map(|(record, edit)| RecordCost {
            id: record.id.clone(),
            edit_s: share,
            score_s: 0.0,
            bytes: edit.as_ref().ok().map(|edit| edit.bytes()),
            peak_bytes,
        })
        .collect()
}

/// The lines of a chunk's records; `applied` says where each stood among several edits.
pub(super) fn lines(
    chunk: &RecordBatch,
    after: Vec<Result<RecordScores, String>>,
    applied: impl Fn(usize) -> Option<Applied>,
) -> Vec<ItemLine> {
    let records = chunk.records().iter().zip(chunk.before());
    records
        .zip(after)
        .enumerate()
        .map(|(at, ((record, before), after))| {
            let (after, error) = match after {
                Ok(after) => (Some(after), None),
                Err(error) => (None, Some(error)),
            };
            ItemLine {
                id: record.id.clone(),
                tags: tags(record),
                before: Some((*before).into()),
                after: after.map(Answers::from),
                error,
                applied: applied(at),
                ..ItemLine::default()
            }
        })
        .collect()
}

/// What tells a record apart from others.
pub(super) fn tags(record: &Record) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::from([("bias_type".to_owned(), record.bias_type.clone())]);
    if record.target == TargetRule::Own && !record.awaits_answer() {
        tags.insert(OWN_ANSWER.to_owned(), record.y_more.clone());
    }
    tags
}

/// The scores, unless one of them is not finite.
pub(super) fn finite(scores: RecordScores) -> Result<RecordScores, String> {
    match scores.is_finite() {
        true => Ok(scores),
        false => Err("a log-likelihood or a divergence is not finite".to_owned()),
    }
}
