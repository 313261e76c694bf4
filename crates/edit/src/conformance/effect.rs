//! C7: an edit does to its own record what the editor promises.

use debias_core::Norm;
use debias_model::Change;

use super::Verdict;
use super::trial::Trial;
use crate::editor::Effect;
use crate::error::Result;

/// Training records that are edited.
const RECORDS: usize = 3;

/// C7. On records it could learn from, the margin rises for every editor that is no control, or comes
/// closer to 0 where balance is claimed; and the target is preferred where reliability is claimed.
pub(super) fn effect(trial: &Trial) -> Result<Verdict> {
    let claimed = trial.claims()?.effect;
    if matches!(claimed, Effect::Identity | Effect::Control) {
        return Ok(Verdict::NotApplicable("it is a control".to_owned()));
    }
    let known = trial.world.train.iter().take(RECORDS).cloned().collect();
    let chunk = trial.world.chunk(known)?;
    let edits = trial
        .fresh()?
        .edit_each(&chunk.requests(), &Change::default())?;
    let after = chunk.after(&edits)?;
    let norm = trial.world.admission.norm;
    let mut problems = Vec::new();
    let mut least = f64::INFINITY;
    for ((record, before), after) in chunk.records().iter().zip(chunk.before()).zip(&after) {
        let (from, to) = (before.prompt.margin(norm), after.prompt.margin(norm));
        let gain = match claimed {
            Effect::Balance => from.abs() - to.abs(),
            _ => to - from,
        };
        least = least.min(gain);
        if gain <= 0.0 || gain.is_nan() {
            problems.push(format!(
                "record `{}`: the margin goes from {from:.4} to {to:.4} nats",
                record.id
            ));
        } else if claimed == Effect::Reliability && !after.prompt.success(norm) {
            problems.push(format!(
                "record `{}`: reliability is claimed, but the margin is still {to:.4} nats",
                record.id
            ));
        }
    }
    let per = match norm {
        Norm::Mean => " per token",
        Norm::Sum => "",
    };
    let way = match claimed {
        Effect::Balance => "come closer to 0",
        _ => "rise",
    };
    Ok(Verdict::of(
        problems,
        format!(
            "margins of {} training records {way} by at least {least:.2} nats{per}",
            after.len()
        ),
    ))
}
