//! The columns of editing: what an edit does to its record, to the record in other words and
//! pictures, and to what it is not about.
//!
//! A family of columns is one file with a `COLUMNS` list and one line in the registry below.

use crate::column::Column;
use crate::error::{Error, Result};

mod edited;

crate::registry! {
    static FAMILIES: &[Column];
    success::COLUMNS,
    margin::COLUMNS,
    balance::COLUMNS,
    locality::COLUMNS,
    divergence::COLUMNS,
    accuracy::COLUMNS,
    knowledge::COLUMNS,
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

#[cfg(test)]
mod tests;
