//! C8, C9, C11 and C12: what other edits do to an edit.

use std::sync::Arc;

use debias_core::{Norm, RecordScores};
use debias_model::Change;

use super::Verdict;
use super::trial::{FEW, Trial, apart, furthest, signature};
use crate::edit::{Edit, Touches};
use crate::editor::Request;
use crate::error::Result;
use crate::sequence::Sequence;

/// What a score may depend on its company by.
const INVARIANT: f64 = 1e-5;
/// Margins below this may change their sign with it.
const CLOSE: f64 = 1e-4;

/// C8. Joint edits do not depend on the order of their requests; that of sequential ones is
/// reported.
pub(super) fn order(trial: &Trial) -> Result<Verdict> {
    let prepared = trial.fresh()?;
    let straight = trial.few().to_vec();
    let turned: Vec<Request> = straight.iter().rev().cloned().collect();
    let joint = |requests: &[Request]| -> Result<Vec<RecordScores>> {
        trial.through(&Arc::new(prepared.edit_jointly(requests)?))
    };
    let (first, second) = (joint(&straight)?, joint(&turned)?);
    let off = furthest(&first, &second);
    let touches = trial.edits.iter().map(|edit| edit.touches());
    let exact = touches.clone().any(|touches| touches == Touches::Output);
    let mut problems = Vec::new();
    if exact && first != second {
        problems.push(format!(
            "a memory in another order is off by {off:.1e}; it must be bit-equal"
        ));
    }
    if off > INVARIANT {
        problems.push(format!(
            "the requests in another order are off by {off:.1e}, {INVARIANT:.0e} is allowed"
        ));
    }
    let mut seen = match first == second {
        true => "bit-equal in another order".to_owned(),
        false => format!("{off:.1e} apart in another order"),
    };
    if touches.clone().all(|touches| touches == Touches::Weights) {
        let one_by_one = |requests: &[Request]| -> Result<Vec<RecordScores>> {
            let mut sequence = Sequence::new(prepared.as_ref());
            requests
                .iter()
                .try_for_each(|request| sequence.add(request))?;
            trial.through(&sequence.edit())
        };
        seen.push_str(&match (one_by_one(&straight), one_by_one(&turned)) {
            (Ok(a), Ok(b)) => format!("; sequentially {:.1e} apart", furthest(&a, &b)),
            // That an editor cannot edit in sequence is its own affair.
            (Err(error), _) | (_, Err(error)) => format!("; sequentially: {error}"),
        });
    }
    Ok(Verdict::of(problems, seen))
}

/// C9. A record scored alone and among others, and a request edited alone and among others, get
/// the same log-likelihoods, and the same success unless the margin is tiny.
pub(super) fn batch(trial: &Trial) -> Result<Verdict> {
    let prepared = trial.fresh()?;
    let among = trial.scores(&trial.edits)?;
    let (mut scoring, mut editing) = (Apart::default(), Apart::default());
    for (at, record) in trial.world.eval.iter().enumerate().take(FEW) {
        let chunk = trial.world.chunk(vec![record.clone()])?;
        scoring.add(&trial.chunk.before()[at], &chunk.before()[0]);
        let edited_among = chunk.after(&trial.edits[at..=at])?[0];
        scoring.add(&among[at], &edited_among);
        let alone = prepared.edit_each(&trial.requests[at..=at], &Change::default())?;
        editing.add(&edited_among, &chunk.after(&alone)?[0]);
    }
    let mut problems = Vec::new();
    for (what, found) in [("scored", &scoring), ("edited", &editing)] {
        if found.off > INVARIANT {
            problems.push(format!(
                "{what} alone a record is off by {:.1e}, {INVARIANT:.0e} is allowed",
                found.off
            ));
        }
        if found.flipped > 0 {
            problems.push(format!(
                "{what} alone, {} contexts change success",
                found.flipped
            ));
        }
    }
    Ok(Verdict::of(
        problems,
        format!(
            "scored alone {:.1e}, edited alone {:.1e} apart",
            scoring.off, editing.off
        ),
    ))
}

/// How far two ways to the same score are apart.
#[derive(Default)]
struct Apart {
    off: f64,
    flipped: usize,
}

impl Apart {
    fn add(&mut self, a: &RecordScores, b: &RecordScores) {
        self.off = self.off.max(apart(a, b));
        for (a, b) in a.contexts().into_iter().zip(b.contexts()) {
            let other = a.success(Norm::Mean) != b.success(Norm::Mean);
            let clear = a.margin(Norm::Mean).abs() >= CLOSE;
            self.flipped += usize::from(other && clear);
        }
    }
}

/// C11. Of n requests edited one after the other, all but one: the same as if that one had never
/// been made.
pub(super) fn memory(trial: &Trial) -> Result<Verdict> {
    let requests = trial.few();
    if requests.len() < 2 {
        return Ok(Verdict::NotApplicable(
            "the world has no two records to edit".to_owned(),
        ));
    }
    let left_out = requests.len() / 2;
    let kept = |at: &usize| *at != left_out;
    let one_by_one = |which: Vec<usize>| -> Result<Vec<(usize, Arc<Edit>)>> {
        let prepared = trial.fresh()?;
        let mut edits = Vec::new();
        for at in which {
            let made = prepared.edit_each(&requests[at..=at], &Change::default())?;
            edits.extend(made.into_iter().map(|edit| (at, edit)));
        }
        Ok(edits)
    };
    let all = one_by_one((0..requests.len()).collect())?;
    let others = one_by_one((0..requests.len()).filter(kept).collect())?;
    let dropped: Vec<Arc<Edit>> = all
        .iter()
        .filter(|(at, _)| kept(at))
        .map(|(_, edit)| edit.clone())
        .collect();
    let others: Vec<Arc<Edit>> = others.into_iter().map(|(_, edit)| edit).collect();
    let without = trial.through(&Arc::new(Edit::joined(&dropped)?))?;
    let never = trial.through(&Arc::new(Edit::joined(&others)?))?;
    if without != never {
        return Ok(Verdict::Failed(format!(
            "with one of {} edits dropped, scores are {:.1e} from those without it ever made",
            requests.len(),
            furthest(&without, &never)
        )));
    }
    let alone: Vec<Arc<Edit>> = all.iter().map(|(_, edit)| edit.clone()).collect();
    let together = trial.through(&Arc::new(Edit::joined(&alone)?))?;
    let off = furthest(
        &trial.scores(&alone)?[..requests.len()],
        &together[..requests.len()],
    );
    Ok(Verdict::Passed(format!(
        "a dropped edit leaves no trace; {} edits at once move each other's records by up to {off:.1e}",
        requests.len()
    )))
}

/// C12. Two edits of the same base used in turns, and one made again after the other.
pub(super) fn isolation(trial: &Trial) -> Result<Verdict> {
    let [a, b, ..] = trial.few() else {
        return Ok(Verdict::NotApplicable(
            "the world has no two records to edit".to_owned(),
        ));
    };
    let prepared = trial.fresh()?;
    let make = |request: &Request| {
        let made = prepared.edit_each(std::slice::from_ref(request), &Change::default());
        made.map(|edits| edits.into_iter().next().unwrap_or_default())
    };
    let first = make(a)?;
    let kept = (signature(&first), trial.through(&first)?);
    let second = make(b)?;
    let other = trial.through(&second)?;
    let mut problems = Vec::new();
    let mut compare = |what: &str, edit: &Arc<Edit>, before: &[RecordScores]| -> Result<()> {
        let again = trial.through(edit)?;
        if again != before {
            let off = furthest(before, &again);
            problems.push(format!("{what} scores are off by {off:.1e}"));
        }
        Ok(())
    };
    compare("after another edit was made and used,", &first, &kept.1)?;
    compare("used in turns,", &second, &other)?;
    compare("used in turns again,", &first, &kept.1)?;
    let again = make(a)?;
    compare("made again after another edit,", &again, &kept.1)?;
    if signature(&again) != kept.0 {
        problems.push("made again after another edit it holds other values".to_owned());
    }
    Ok(Verdict::of(
        problems,
        "bit-equal in turns, and when made again",
    ))
}
