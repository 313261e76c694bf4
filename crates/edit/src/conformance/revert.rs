//! C1 to C3: an edit leaves no trace, is refused where there is nothing to edit, and can be none.

use std::sync::Arc;

use debias_core::RecordScores;
use debias_model::{Change, Model};

use super::Verdict;
use super::shelf::Shelf;
use super::trial::{Trial, fingerprint, furthest, prepare, signatures};
use crate::edit::Edit;
use crate::editor::{Prepared, Request};
use crate::error::{Error, Result};

/// C1. Weights and base logits keep their bits, and the editor its behaviour, over edits that are
/// scored and dropped and over an error in the middle of a batch.
pub(super) fn revert(trial: &Trial) -> Result<Verdict> {
    let prepared = trial.fresh()?;
    let edit = || prepared.edit_each(trial.few(), &Change::default());
    let first = edit()?;
    let kept = signatures(&first);
    trial.scores(&first)?;
    drop(first);
    let mut problems = Vec::new();
    let mut spoilt = trial.few().to_vec();
    spoilt.insert(1, over_long(trial.world.model, &trial.requests[0]));
    // That this is an error at all is the business of C2.
    let refused = prepared.edit_each(&spoilt, &Change::default());
    if fingerprint(trial.world)? != trial.fingerprint {
        problems.push("weights or logits of the base model have changed".to_owned());
    }
    let unedited = trial.through(&Arc::default())?;
    if unedited != trial.chunk.before() {
        let off = furthest(trial.chunk.before(), &unedited);
        problems.push(format!("without an edit scores are off by {off:.1e}"));
    }
    let again = signatures(&edit()?);
    let other = kept.iter().zip(&again).filter(|(a, b)| a != b).count();
    if other > 0 {
        problems.push(format!(
            "after an error in the middle of a batch {other} of {} requests get another edit",
            kept.len()
        ));
    }
    let seen = match refused {
        Err(_) => "bit-equal after edits, scores and an error in the middle of a batch",
        Ok(_) => "bit-equal after edits and scores",
    };
    Ok(Verdict::of(problems, seen))
}

/// C2. No request, and requests that no edit can be made of: an error that names the record.
///
/// A picture that cannot be read never becomes a [`Request`]; the harness refuses it earlier.
pub(super) fn empty(trial: &Trial) -> Result<Verdict> {
    let prepared = trial.fresh()?;
    let mut problems = Vec::new();
    let nobody: [&dyn Fn() -> Option<Error>; 2] = [
        &|| prepared.edit_each(&[], &Change::default()).err(),
        &|| prepared.edit_jointly(&[]).err(),
    ];
    for (way, refusal) in ["edit_each", "edit_jointly"].into_iter().zip(nobody) {
        match refusal() {
            Some(Error::EmptyEdit) => {}
            Some(error) => problems.push(format!("{way} without requests says `{error}`")),
            None => problems.push(format!("{way} without requests is no error")),
        }
    }
    let good = &trial.requests[0];
    let answer = |id: &str, y_less: &str| {
        let mut request = good.clone();
        request.record.id = id.to_owned();
        request.record.y_less = y_less.to_owned();
        request
    };
    let bad = [
        ("an empty target", answer("without-target", " ")),
        (
            "equal answers",
            answer("equal-answers", &good.record.y_more),
        ),
        ("an over-long prompt", over_long(trial.world.model, good)),
    ];
    for (what, request) in bad {
        if let Some(problem) = accepted(prepared.as_ref(), good, &request) {
            problems.push(format!("{what} {problem}"));
        }
    }
    if fingerprint(trial.world)? != trial.fingerprint {
        problems.push("the refusals have changed the base model".to_owned());
    }
    Ok(Verdict::of(
        problems,
        "five kinds of unusable requests are refused, records are named",
    ))
}

/// What is wrong with how a batch with one bad request is received.
fn accepted(prepared: &dyn Prepared, good: &Request, bad: &Request) -> Option<String> {
    let batch = [good.clone(), bad.clone()];
    match prepared.edit_each(&batch, &Change::default()) {
        Ok(_) => Some("is no error".to_owned()),
        Err(error) if error.to_string().contains(&bad.record.id) => None,
        Err(error) => Some(format!("is refused without its record's id: `{error}`")),
    }
}

/// `request` with more words than the model has positions.
fn over_long(model: &Model, request: &Request) -> Request {
    let mut request = request.clone();
    request.record.id = "over-long".to_owned();
    let words = model.decoder().outline().max_positions + 1;
    request.prompt = [request.prompt.as_str()]
        .into_iter()
        .chain(std::iter::repeat_n("who", words))
        .collect::<Vec<_>>()
        .join(" ");
    request.record.prompt.clone_from(&request.prompt);
    request
}

/// C3. Under the settings that make it the identity, the editor changes no bit.
pub(super) fn identity(trial: &Trial) -> Result<Verdict> {
    let rehearsed = trial.editor.rehearsal(trial.settings);
    let Some(still) = trial.editor.identity(&rehearsed) else {
        return Ok(Verdict::NotApplicable(
            "it names no settings under which it does nothing".to_owned(),
        ));
    };
    let world = trial.world;
    let shelf = Shelf::new(world.model.device());
    let prepared = prepare(trial.editor, world, &still, trial.options.seed, &shelf)?;
    let edits = prepared.edit_each(&trial.requests, &Change::default())?;
    let mut problems = unlike_the_base(trial, "edited alone", &edits)?;
    let joint = Arc::new(prepared.edit_jointly(trial.few())?);
    let joint = vec![joint; trial.requests.len()];
    problems.extend(unlike_the_base(trial, "edited jointly", &joint)?);
    Ok(Verdict::of(
        problems,
        "bit-equal to the base model, locality 1, KL 0",
    ))
}

fn unlike_the_base(trial: &Trial, how: &str, edits: &[Arc<Edit>]) -> Result<Vec<String>> {
    let before = trial.chunk.before();
    let after = trial.chunk.after(edits)?;
    let moved: Vec<(&RecordScores, &RecordScores)> = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before != after)
        .collect();
    if moved.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![format!(
        "{how}, {} of {} records change, by up to {:.1e}",
        moved.len(),
        before.len(),
        furthest(before, &after)
    )])
}
