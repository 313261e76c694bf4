//! From the stored lines of a cell to its numbers: a pure function, so that a new or changed column
//! never asks a model again.

use std::collections::BTreeMap;

use debias_core::{CellResult, Column, Error, ItemLine, measure, retention, seed, versions};
use debias_data::benchmarks;

/// The columns of the benchmark `id`.
///
/// # Errors
/// [`Error::Unknown`] with the nearest name.
pub fn columns(id: &str) -> debias_core::Result<Vec<&'static Column>> {
    let known = benchmarks::ALL.iter();
    let found = known.clone().find(|benchmark| benchmark.card().name == id);
    match found {
        Some(benchmark) => Ok(benchmark.columns().iter().collect()),
        None => {
            let names = known.map(|benchmark| benchmark.card().name.as_str());
            Err(Error::unknown("benchmark", id, names))
        }
    }
}

/// The version of every column of the benchmark `id`.
///
/// # Errors
/// As [`columns`].
pub fn current_versions(id: &str) -> debias_core::Result<BTreeMap<String, u32>> {
    Ok(versions(columns(id)?))
}

/// `result` with the numbers that `lines` give now.
///
/// # Errors
/// A benchmark that there is not, or a line with a number that is not finite.
pub fn measured(result: CellResult, lines: &[ItemLine]) -> debias_core::Result<CellResult> {
    let cell = &result.cell;
    let columns = columns(&cell.benchmark.id)?;
    let norm = cell.protocol.norm;
    // The same draws for all cells that ask the same items, so that their differences are paired.
    let part = cell.benchmark.part();
    let draws = seed::stream(cell.seed, &["bootstrap", &cell.dataset.id, &part]);
    let metrics = measure(columns.iter().copied(), lines, norm, draws)?;
    Ok(CellResult {
        n: lines.iter().filter(|line| line.counts()).count(),
        failed: lines.iter().filter(|line| line.after.is_none()).count(),
        retention: retention(lines, norm),
        metrics,
        versions: versions(columns),
        ..result
    })
}
