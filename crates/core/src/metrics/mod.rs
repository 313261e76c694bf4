//! The columns of editing: what an edit does to its record, to the record in other words and
//! pictures, and to what it is not about.
//!
//! A family of columns is one file with a `COLUMNS` list and one line in the registry below.

use crate::answer::{Answers, ItemLine};
use crate::column::Column;
use crate::error::{Error, Result};
use crate::estimate::Ratio;
use crate::score::{CONTEXTS, ContextScore, LocalityScore};

macro_rules! registry {
    ($($family:ident),+ $(,)?) => {
        $(mod $family;)+
        static FAMILIES: &[&[Column]] = &[$($family::COLUMNS),+];
    };
}

registry! {
    success,
    margin,
    balance,
    locality,
    divergence,
    accuracy,
    knowledge,
}

/// The five columns of the paper's table, in its order.
pub const HEADLINE: [&str; 5] = [
    "reliability",
    "t_generality",
    "v_generality",
    "t_locality",
    "m_locality",
];

/// Every column, family by family.
pub fn all() -> impl Iterator<Item = &'static Column> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

/// The column named `id`.
///
/// # Errors
/// [`Error::Unknown`] with the nearest name.
pub fn find(id: &str) -> Result<&'static Column> {
    all()
        .find(|column| column.id == id)
        .ok_or_else(|| Error::unknown("metric", id, all().map(|column| column.id)))
}

/// What the edited model answered.
fn after(line: &ItemLine) -> Option<&Answers> {
    // An edit is judged by what it changes: without a reference it has no number.
    line.before.as_ref().and(line.after.as_ref())
}

/// What the never-edited model answered, to a record that was edited.
fn before(line: &ItemLine) -> Option<&Answers> {
    line.after.as_ref().and(line.before.as_ref())
}

/// The contexts of a record that were asked, after the edit.
fn contexts(line: &ItemLine) -> impl Iterator<Item = ContextScore> {
    let contexts = CONTEXTS.into_iter();
    contexts.filter_map(|probe| after(line)?.context(probe))
}

/// What a locality item of the line contributes; nothing where it was not asked.
fn drift(line: &ItemLine, probe: &str, of: impl Fn(&LocalityScore) -> Ratio) -> Ratio {
    after(line)
        .and_then(|answers| answers.drift(probe))
        .map_or(Ratio::none(), of)
}

#[cfg(test)]
mod tests;
