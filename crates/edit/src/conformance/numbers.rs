//! C17 and C20: what an edit computes is finite, and what it costs is known.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Tensor;
use debias_core::RecordScores;
use debias_model::{Change, Delta, host};

use super::Verdict;
use super::footprint::each_delta;
use super::trial::Trial;
use crate::edit::Touches;
use crate::error::Result;

/// C17. Deltas and scores are finite, and a NaN laid into the editor's own edit is an error of
/// that record in place of a score: it can be counted, and never averaged.
pub(super) fn finite(trial: &Trial) -> Result<Verdict> {
    let mut problems = Vec::new();
    for (request, edit) in trial.requests.iter().zip(&trial.edits) {
        let id = &request.record.id;
        let holes = edit.change().map_or(0, holes);
        if holes > 0 {
            problems.push(format!(
                "record `{id}`: {holes} values of its edit are not finite"
            ));
            continue;
        }
        match trial.through(edit) {
            Ok(scores) if scores.iter().all(RecordScores::is_finite) => {}
            Ok(_) => problems.push(format!("record `{id}`: a score is not finite")),
            Err(error) => problems.push(format!("record `{id}`: {error}")),
        }
    }
    let poisoned = trial
        .edits
        .iter()
        .find(|edit| edit.touches() == Touches::Weights);
    if let Some(edit) = poisoned {
        let edit = Arc::new(each_delta(edit, |delta| {
            Delta::Dense(delta.dense().mul_scalar(f32::NAN))
        }));
        if trial
            .through(&edit)
            .is_ok_and(|scores| scores.iter().all(RecordScores::is_finite))
        {
            problems.push("an edit of NaN is scored as if it were none".to_owned());
        }
    }
    Ok(Verdict::of(
        problems,
        format!("{} edits and their scores are finite", trial.edits.len()),
    ))
}

fn holes(change: &Change) -> usize {
    let parts = change.weights.values().flat_map(|delta| match delta {
        Delta::Dense(delta) => vec![delta.clone()],
        Delta::LowRank { a, b } => vec![a.clone(), b.clone()],
    });
    let holes = |part: Tensor<2>| host::values(part).iter().filter(|x| !x.is_finite()).count();
    parts.map(holes).sum()
}

/// What one edit cost.
#[derive(Clone, Debug)]
struct Measured {
    /// The record.
    id: String,
    /// Seconds of making the edit.
    seconds: f64,
    /// What [`Edit::bytes`] reports.
    bytes: usize,
    /// Whether any score differs from the base model's.
    alters: bool,
}

/// C20. Time and bytes of every single edit, and the peak memory of the process.
pub(super) fn cost(trial: &Trial) -> Result<Verdict> {
    let prepared = trial.fresh()?;
    let mut measured = Vec::new();
    for request in &trial.requests {
        let start = Instant::now();
        let edits = prepared.edit_each(std::slice::from_ref(request), &Change::default())?;
        let seconds = start.elapsed().as_secs_f64();
        for edit in edits {
            measured.push(Measured {
                id: request.record.id.clone(),
                seconds,
                bytes: edit.bytes(),
                alters: trial.through(&edit)? != trial.chunk.before(),
            });
        }
    }
    let ids: Vec<&str> = trial
        .requests
        .iter()
        .map(|request| request.record.id.as_str())
        .collect();
    let peak = trial.options.peak_bytes.map(|peak| peak());
    Ok(costs(&ids, &measured, peak))
}

/// Whether the cost of every record is known.
fn costs(ids: &[&str], measured: &[Measured], peak: Option<u64>) -> Verdict {
    let mut problems = Vec::new();
    for id in ids {
        match measured.iter().filter(|cost| cost.id == *id).count() {
            1 => {}
            n => problems.push(format!("record `{id}` has {n} edits in place of one")),
        }
    }
    for cost in measured
        .iter()
        .filter(|cost| cost.alters && cost.bytes == 0)
    {
        problems.push(format!(
            "record `{}`: the edit changes scores but reports 0 bytes",
            cost.id
        ));
    }
    let slowest = measured.iter().map(|cost| cost.seconds).fold(0.0, f64::max);
    let largest = measured.iter().map(|cost| cost.bytes).max().unwrap_or(0);
    let peak = match peak {
        Some(bytes) => format!(", {bytes} bytes of memory at the peak"),
        None => String::new(),
    };
    Verdict::of(
        problems,
        format!("at most {slowest:.3} s and {largest} bytes per record{peak}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(id: &str, bytes: usize) -> Measured {
        Measured {
            id: id.to_owned(),
            seconds: 0.25,
            bytes,
            alters: true,
        }
    }

    #[test]
    fn every_record_has_a_cost() {
        let whole = [measured("a", 8), measured("b", 16)];
        let found = costs(&["a", "b"], &whole, Some(1024));
        let seen = "at most 0.250 s and 16 bytes per record, 1024 bytes of memory at the peak";
        assert_eq!(found, Verdict::Passed(seen.to_owned()));
        assert!(costs(&["a", "b", "c"], &whole, None).is_failed());
    }

    #[test]
    fn an_edit_that_weighs_nothing_and_does_something_is_found_out() {
        let found = costs(&["a"], &[measured("a", 0)], None);
        let why = "record `a`: the edit changes scores but reports 0 bytes";
        assert_eq!(found, Verdict::Failed(why.to_owned()));
    }
}
