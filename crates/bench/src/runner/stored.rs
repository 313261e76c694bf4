//! Cells that are stored already.

use std::collections::BTreeSet;

use debias_core::{Cell, CellResult};

use crate::results::store::{Again, Lookup, RunFolder};
use crate::terminal::printer::Printer;

/// Cells whose numbers were computed from their stored lines again, without a model.
#[derive(Debug, Default)]
pub struct Measured {
    columns: BTreeSet<String>,
    renewed: usize,
    earlier: usize,
}

impl Measured {
    pub(super) fn add(&mut self, again: Again) {
        match again {
            Again::Columns(columns) => {
                self.renewed += 1;
                self.columns.extend(columns);
            }
            Again::Earlier(_) => self.earlier += 1,
        }
    }

    /// Whether there are any.
    pub fn any(&self) -> bool {
        self.renewed + self.earlier > 0
    }

    /// The same in a sentence or two; none where there were none.
    pub(super) fn said(&self) -> Option<String> {
        let cells = |n: usize| {
            if n == 1 {
                "1 cell".to_owned()
            } else {
                format!("{n} cells")
            }
        };
        let columns: Vec<&str> = self.columns.iter().map(String::as_str).collect();
        let renewed = (self.renewed > 0).then(|| {
            format!(
                "Measured {} again from stored lines, without a model: {} is new or changed.",
                cells(self.renewed),
                columns.join(", ")
            )
        });
        let earlier = (self.earlier > 0).then(|| {
            format!(
                "Took over {} that an earlier bench stored.",
                cells(self.earlier)
            )
        });
        let said: Vec<String> = renewed.into_iter().chain(earlier).collect();
        self.any().then(|| said.join(" "))
    }
}

/// The stored result of a cell, unless it is missing, damaged or failed. Where only its numbers are old,
/// they are computed from its lines and kept.
///
/// # Errors
/// A folder that a newer `bench` wrote, or that cannot be written.
pub(super) fn stored(
    folder: &RunFolder,
    cell: &Cell,
    measured: &mut Measured,
    printer: Printer,
) -> anyhow::Result<Option<CellResult>> {
    Ok(match folder.get(cell)? {
        Lookup::Hit(result) => Some(*result),
        Lookup::Measured(result, again) => {
            folder.keep(&result, &again)?;
            measured.add(again);
            Some(*result)
        }
        Lookup::Miss => None,
        Lookup::Failed(result) => {
            let error = result.error.unwrap_or_default();
            printer.detail(&format!("trying a failed cell again ({error})"));
            None
        }
        Lookup::Damaged(problem) => {
            printer.warn(&format!("{problem}; the cell is computed again"));
            None
        }
    })
}
