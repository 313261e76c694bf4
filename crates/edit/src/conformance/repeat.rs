//! C4: the same seed gives the same bits, and another one changes what is declared random.

use debias_model::Change;

use super::Verdict;
use super::shelf::Shelf;
use super::trial::{Trial, digest, prepare, signatures};
use crate::edit::Edit;
use crate::error::Result;

/// The seed under which a check with `seed` asks a second time (C4).
pub fn other_seed(seed: u64) -> u64 {
    seed.wrapping_add(1)
}

/// C4. Edits are the same bits when made again, by an editor prepared again, and in another
/// process; another seed keeps at least what is edited, and everything where nothing is declared
/// random.
pub(super) fn determinism(trial: &Trial) -> Result<Verdict> {
    let (world, settings, seed) = (trial.world, trial.settings, trial.options.seed);
    let mut problems = Vec::new();
    let prepared = trial.fresh()?;
    let once = prepared.edit_each(&trial.requests, &Change::default())?;
    let twice = prepared.edit_each(&trial.requests, &Change::default())?;
    if signatures(&once) != signatures(&twice)
        || trial.chunk.after(&once)? != trial.chunk.after(&twice)?
    {
        problems.push("the same requests get another edit the second time".to_owned());
    }
    let mut seen = "the same bits twice, freshly prepared".to_owned();
    let own = digest(trial.editor, world, settings, seed)?;
    if digest(trial.editor, world, settings, seed)? != own {
        problems.push("prepared again with the same seed it makes other edits".to_owned());
    }
    if let Some(elsewhere) = trial.options.elsewhere {
        match elsewhere() {
            Ok(other) if other == own => seen.push_str(", in another process"),
            Ok(_) => problems.push("another process makes other edits".to_owned()),
            Err(error) => problems.push(format!("another process fails: {error}")),
        }
    }
    let (other, said) = under_another_seed(trial, &own)?;
    problems.extend(other);
    Ok(Verdict::of(problems, format!("{seen}; {said}")))
}

/// What is wrong with the edits under another seed, or what is right with them.
fn under_another_seed(trial: &Trial, own: &str) -> Result<(Option<String>, String)> {
    let world = trial.world;
    let seed = other_seed(trial.options.seed);
    let random = trial.claims()?.random;
    if random.is_empty() {
        let same = digest(trial.editor, world, trial.settings, seed)? == own;
        let problem = "another seed makes other edits, and nothing is declared random";
        return Ok((
            (!same).then(|| problem.to_owned()),
            "the seed decides nothing".to_owned(),
        ));
    }
    let settings = trial.editor.rehearsal(trial.settings);
    let made = |seed| {
        let shelf = Shelf::new(world.model.device());
        let prepared = prepare(trial.editor, world, &settings, seed, &shelf)?;
        prepared.edit_each(trial.few(), &Change::default())
    };
    let (mine, other) = (made(trial.options.seed)?, made(seed)?);
    let same = mine.iter().zip(&other).all(|(a, b)| alike(a, b));
    let problem = "another seed changes which parameters are edited, not only their values";
    Ok((
        (!same).then(|| problem.to_owned()),
        format!("the seed decides: {random}"),
    ))
}

/// Whether two edits act on the same thing.
fn alike(a: &Edit, b: &Edit) -> bool {
    a.touches() == b.touches() && a.parameters() == b.parameters()
}
