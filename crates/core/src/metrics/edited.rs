//! What a line of an edit says, as the columns ask for it.

use crate::answer::{Answers, ItemLine};
use crate::estimate::Ratio;
use crate::record_scores::CONTEXTS;
use crate::score::{ContextScore, LocalityScore};

/// What the edited model answered.
pub(super) fn after(line: &ItemLine) -> Option<&Answers> {
    // An edit is judged by what it changes: without a reference it has no number.
    line.before.as_ref().and(line.after.as_ref())
}

/// What the never-edited model answered, to a record that was edited.
pub(super) fn before(line: &ItemLine) -> Option<&Answers> {
    line.after.as_ref().and(line.before.as_ref())
}

/// The contexts of a record that were asked, after the edit.
pub(super) fn contexts(line: &ItemLine) -> impl Iterator<Item = ContextScore> {
    let contexts = CONTEXTS.into_iter();
    contexts.filter_map(|probe| after(line)?.context(probe))
}

/// What a locality item of the line contributes; nothing where it was not asked.
pub(super) fn drift(line: &ItemLine, probe: &str, of: impl Fn(&LocalityScore) -> Ratio) -> Ratio {
    after(line)
        .and_then(|answers| answers.drift(probe))
        .map_or(Ratio::none(), of)
}
