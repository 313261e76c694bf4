//! C16: trained parts survive bytes, and a training survives an interruption.

use debias_model::Change;

use super::Verdict;
use super::shelf::{Ledger, Shelf};
use super::trial::{Trial, prepare, signatures};
use crate::editor::Learns;
use crate::error::{Error, Result};
use crate::settings::Settings;

/// C16. Parts that went through bytes give bit-equal edits without another step of training; a
/// training that was interrupted goes on from its kept state and ends in the same parts.
pub(super) fn saved(trial: &Trial) -> Result<Verdict> {
    let settings = trial.editor.rehearsal(trial.settings);
    if trial.editor.learns(&settings)? != Learns::Parts {
        return Ok(Verdict::NotApplicable(
            "it keeps no trained parts".to_owned(),
        ));
    }
    let device = trial.world.model.device();
    let whole = Shelf::new(device);
    let edits = made(trial, &settings, &whole)?;
    let whole = whole.ledger();
    let Some(parts) = whole.finished.clone() else {
        return Ok(Verdict::Failed(
            "it learns parts but hands none to its store".to_owned(),
        ));
    };
    let mut problems = Vec::new();
    let loaded = Shelf::with(
        device,
        Ledger {
            finished: Some(parts.clone()),
            ..Ledger::default()
        },
    );
    let again = made(trial, &settings, &loaded)?;
    if again != edits {
        problems.push("saved and loaded parts make other edits".to_owned());
    }
    let steps = loaded.ledger().steps;
    if steps > 0 {
        problems.push(format!(
            "with finished parts at hand it trains {steps} steps"
        ));
    }
    let seen = match interrupted(trial, &settings)? {
        Err(problem) => {
            problems.push(problem);
            String::new()
        }
        Ok(kept) => {
            let resumed = Shelf::with(device, kept.clone());
            let again = made(trial, &settings, &resumed)?;
            let resumed = resumed.ledger();
            let further = resumed.steps - kept.steps;
            let differs = resumed.finished.and_then(|resumed| {
                let pairs = parts.iter().zip(&resumed);
                pairs.filter_map(|(a, b)| a.difference(b)).next()
            });
            if let Some(what) = differs {
                problems.push(format!(
                    "resumed after an interruption, {what} ends differently"
                ));
            } else if again != edits {
                problems.push("resumed after an interruption it makes other edits".to_owned());
            }
            if kept.state.is_some() && further >= whole.steps {
                problems.push(format!(
                    "resumed, it trains all {} steps again",
                    whole.steps
                ));
            }
            match kept.state {
                Some(_) => format!(
                    "; interrupted at step {}, resumed: the same parts",
                    kept.steps
                ),
                None => "; no state is kept, an interrupted training begins again".to_owned(),
            }
        }
    };
    Ok(Verdict::of(
        problems,
        format!(
            "{} steps; loaded parts make the same edits{seen}",
            whole.steps
        ),
    ))
}

/// What the edits hold and how they score, prepared in `shelf`.
fn made(trial: &Trial, settings: &Settings, shelf: &Shelf) -> Result<(Vec<String>, Vec<u64>)> {
    let seed = trial.options.seed;
    let prepared = prepare(trial.editor, trial.world, settings, seed, shelf)?;
    let edits = prepared.edit_each(&trial.requests, &Change::default())?;
    let scores = trial.chunk.after(&edits)?;
    let bits = scores
        .iter()
        .flat_map(|scores| scores.contexts().into_iter().map(|c| [c.y_more, c.y_less]));
    let bits = bits.flatten().map(|answer| answer.sum.to_bits());
    Ok((signatures(&edits), bits.collect()))
}

/// What a training that is told to stop has left behind, or what is wrong with how it stops.
fn interrupted(trial: &Trial, settings: &Settings) -> Result<std::result::Result<Ledger, String>> {
    let shelf = Shelf::interrupting(trial.world.model.device());
    let seed = trial.options.seed;
    match prepare(trial.editor, trial.world, settings, seed, &shelf) {
        Err(Error::Stopped) => Ok(Ok(shelf.ledger())),
        Err(error) => Err(error),
        Ok(_) if shelf.ledger().steps == 0 => {
            Ok(Err("its training reports no step to its store".to_owned()))
        }
        Ok(_) => Ok(Err(
            "its training goes on after its store told it to stop".to_owned()
        )),
    }
}
