//! C18: what is judged on was not learned from.

use std::collections::BTreeSet;

use debias_core::{Record, Split};
use debias_model::Change;

use super::Verdict;
use super::shelf::Shelf;
use super::trial::Trial;
use super::world::World;
use crate::context::Context;
use crate::edit::Wrap;
use crate::editor::{Ctx, Lessons};
use crate::error::Result;

/// A word that no dataset holds.
const PLANTED: &str = "xyzzyplugh";

/// C18. No evaluation id or group is among the lessons. Where edits are contexts, a copy of an
/// evaluation record that is smuggled into the training records does not come through: the editor
/// refuses it or leaves records of the request's group out.
///
/// Editors without a context show nothing of what they learned from, so for those the lessons
/// alone are looked at, and it is the harness that hands out lessons without evaluation groups.
pub(super) fn separation(trial: &Trial) -> Result<Verdict> {
    let mut problems = shared(trial.world);
    let contexts = trial
        .edits
        .iter()
        .any(|edit| edit.wrapped::<Context>().is_some());
    if !contexts {
        return Ok(Verdict::of(
            problems,
            "no evaluation id or group among the lessons",
        ));
    }
    match planted(trial) {
        Ok(0) => {}
        Ok(n) => problems.push(format!(
            "{n} texts of the context come from a training record of the edited record's own group"
        )),
        // A refusal is as good.
        Err(_) => {}
    }
    Ok(Verdict::of(
        problems,
        "no evaluation id or group among the lessons; a planted one does not come through",
    ))
}

/// What train and val share with eval, and with each other.
fn shared(world: &World) -> Vec<String> {
    type Key = fn(&Record) -> &String;
    let keys: [(&str, Key); 2] = [
        ("id", |record| &record.id),
        ("group", |record| &record.group),
    ];
    let splits = [
        ("train", &world.train, "eval", &world.eval),
        ("val", &world.val, "eval", &world.eval),
        ("train", &world.train, "val", &world.val),
    ];
    let mut problems = Vec::new();
    for (what, key) in keys {
        for (one, records, other, others) in splits {
            let known: BTreeSet<&String> = others.iter().map(key).collect();
            let both = records.iter().map(key).find(|value| known.contains(value));
            if let Some(value) = both {
                problems.push(format!("{what} `{value}` is in {one} and in {other}"));
            }
        }
    }
    problems
}

/// Texts of an edit of the first evaluation record that come from a training record of its group.
fn planted(trial: &Trial) -> Result<usize> {
    let world = trial.world;
    let request = &trial.requests[0];
    let mut train = world.train.clone();
    for copy in 0..3 {
        let mut record = request.record.clone();
        record.id = format!("{PLANTED}-{copy}");
        record.split = Split::Train;
        record.y_less = format!("{} {PLANTED}", record.y_less);
        train.push(record);
    }
    let settings = trial.editor.rehearsal(trial.settings);
    let lessons = Lessons {
        train: &world.split(train),
        val: &world.split(world.val.clone()),
        eval: &world.split(world.eval.clone()),
    };
    let shelf = Shelf::new(world.model.device());
    let ctx = Ctx {
        seed: trial.options.seed,
        settings: &settings,
        store: &shelf,
    };
    let prepared = trial.editor.prepare(world.model, &lessons, &ctx)?;
    let edits = prepared.edit_each(std::slice::from_ref(request), &Change::default())?;
    let contexts = edits.iter().filter_map(|edit| edit.wrapped::<Context>());
    let texts = contexts.flat_map(|context| context.texts());
    Ok(texts.filter(|text| text.contains(PLANTED)).count())
}
