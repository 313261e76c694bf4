//! C5, C6 and C10: what an edit holds, and that it is what the card says.

use std::collections::BTreeMap;
use std::sync::Arc;

use debias_core::RecordScores;
use debias_model::{Batch, Change, Delta, Model, Parameters, Question, Side, host};

use super::Verdict;
use super::trial::{Trial, furthest};
use crate::edit::{Edit, Touches};
use crate::error::Result;

/// What the factors of a low-rank edit may differ from their product by (C10).
const ADDITIVE: f64 = 1e-5;

/// C5. The card says what kinds of things the editor touches; every
/// parameter of an edit exists, and differs once the edit lies over it in f32. Parameters that an
/// edit does not name cannot differ: a view patches by name. Single edits may be the identity (a
/// loss that is low enough from the start), all of them only where the card says so.
pub(super) fn declared(trial: &Trial) -> Result<Verdict> {
    let footprint = trial.editor.card().touches;
    let declared = footprint.kinds();
    let mut problems = Vec::new();
    let touched = trial.edits.iter().map(|edit| edit.touches());
    let idle = touched.clone().all(|touches| touches == Touches::Nothing);
    let mut touched = touched.filter(|touches| idle || *touches != Touches::Nothing);
    if let Some(found) = touched.find(|found| !footprint.kinds.contains(found)) {
        problems.push(format!(
            "the card says it touches `{declared}`, an edit touches {}",
            found.word()
        ));
    }
    let mut names = 0;
    for change in trial.changes() {
        names = names.max(change.weights.len());
        for (name, delta) in &change.weights {
            if !moves(trial.world.model, name, delta)? {
                problems.push(format!(
                    "parameter `{name}` is declared but keeps its value"
                ));
            }
        }
    }
    problems.sort();
    problems.dedup();
    Ok(Verdict::of(
        problems,
        match names {
            0 => format!("touches {declared}, no parameter"),
            1 => "1 parameter, and it differs".to_owned(),
            n => format!("{n} parameters, and each of them differs"),
        },
    ))
}

/// Whether `W + Δ` differs from `W` in any value.
fn moves(model: &Model, name: &str, delta: &Delta) -> Result<bool> {
    let site = model.parameter(name)?;
    if delta.shape() != site.matrix_shape() {
        return Err(debias_model::Error::ChangeShape {
            site: name.to_owned(),
            found: delta.shape().to_vec(),
            expected: site.matrix_shape().to_vec(),
        }
        .into());
    }
    let Some(value) = model.value(name) else {
        return Ok(false);
    };
    Ok(host::values(value.clone() + delta.dense()) != host::values(value))
}

/// C6. Text alone never passes the vision side: an editor that changes nothing else, or says so,
/// leaves every bit of text-only logits.
pub(super) fn vision_only(trial: &Trial) -> Result<Verdict> {
    let mut sides = Vec::new();
    for name in trial.changes().flat_map(|change| change.weights.keys()) {
        sides.push(trial.world.model.parameter(name)?.side);
    }
    let claimed = trial.claims()?.side == Some(Side::Vision);
    let seen = !sides.is_empty() && sides.iter().all(|side| *side == Side::Vision);
    if !claimed && !seen {
        let why = match trial.edits.first().map(|edit| edit.touches()) {
            Some(Touches::Weights) => "it edits the language side",
            Some(Touches::Input) => "it edits the input",
            Some(Touches::Output) => "it edits the output",
            Some(Touches::Nothing) | None => "it edits nothing",
        };
        return Ok(Verdict::NotApplicable(why.to_owned()));
    }
    let after = trial.chunk.after(&trial.edits)?;
    let mut problems: Vec<String> = text_moved(trial.chunk.before(), &after)
        .into_iter()
        .collect();
    for (request, edit) in trial.requests.iter().zip(&trial.edits) {
        let question = Question::new(None, &request.prompt, &request.record.y_less);
        let rows = trial.world.model.rows(&[question])?;
        let batch = Batch::text(rows);
        let changes: Vec<&Change> = edit.change().into_iter().collect();
        let edited = trial.world.model.view(&changes)?;
        let logits = |view| host::values(trial.world.model.logits(batch.clone(), view));
        if logits(&edited) != logits(&trial.world.model.base()) {
            problems.push(format!(
                "the edit of record `{}` moves text-only logits of its own prompt",
                request.record.id
            ));
        }
    }
    Ok(Verdict::of(problems, "text-only logits keep every bit"))
}

/// What is wrong with text locality where nothing may change.
fn text_moved(before: &[RecordScores], after: &[RecordScores]) -> Option<String> {
    let pairs = before.iter().zip(after);
    let moved = pairs.filter(|(before, after)| before.t_locality != after.t_locality);
    let kl = moved
        .clone()
        .filter_map(|(_, after)| Some(after.t_locality?.kl));
    let kl = kl.fold(0.0, f64::max);
    match moved.count() {
        0 => None,
        n => Some(format!(
            "text-only predictions move on {n} of {} records, KL up to {kl:.1e}",
            before.len()
        )),
    }
}

/// C10. Low-rank factors beside a product equal their dense product inside it.
pub(super) fn additivity(trial: &Trial) -> Result<Verdict> {
    let low_rank = |delta: &Delta| matches!(delta, Delta::LowRank { .. });
    let mut changes = trial.changes();
    if !changes.any(|change| change.weights.values().any(low_rank)) {
        return Ok(Verdict::NotApplicable(
            "its edits hold no low-rank factors".to_owned(),
        ));
    }
    let dense: Vec<Arc<Edit>> = trial
        .edits
        .iter()
        .map(|edit| Arc::new(dense(edit)))
        .collect();
    let beside = trial.chunk.after(&trial.edits)?;
    let off = furthest(&beside, &trial.chunk.after(&dense)?);
    Ok(match off <= ADDITIVE {
        true => Verdict::Passed(format!("side path and dense matrix are {off:.1e} apart")),
        false => Verdict::Failed(format!(
            "side path and dense matrix are {off:.1e} apart, {ADDITIVE:.0e} is allowed"
        )),
    })
}

/// `edit` with every delta as one matrix.
fn dense(edit: &Edit) -> Edit {
    each_delta(edit, |delta| Delta::Dense(delta.dense()))
}

/// `edit` with every delta turned.
pub(super) fn each_delta(edit: &Edit, turn: impl Fn(&Delta) -> Delta) -> Edit {
    let Some(change) = edit.change() else {
        return edit.clone();
    };
    let weights: BTreeMap<String, Delta> = change
        .weights
        .iter()
        .map(|(name, delta)| (name.clone(), turn(delta)))
        .collect();
    Edit::Weights(Change { weights })
}
