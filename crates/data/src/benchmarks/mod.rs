//! Published benchmarks: a reader that yields items, and columns that turn answers into figures.
//!
//! A benchmark is one file and one line in the registry below, with a card
//! `datasets/benchmarks/<name>.toml`. Neither reader nor columns know a model: what is asked is an
//! [`Item`](debias_core::Item), what came back an [`ItemLine`](debias_core::ItemLine), and every
//! figure is computed from lines alone, whether a model has just been asked, a cell was stored last
//! year, or somebody else's outputs are graded.

mod benchmark;
mod card;
mod document;
mod opened;
mod outputs;
mod rows;
mod sample;
mod source;
mod table;

use std::path::PathBuf;

use debias_core::registry;

pub use benchmark::{Benchmark, undefined};
pub use card::{BenchmarkCard, BenchmarkFile};
pub use opened::{Graded, Opened};
pub use source::Source;

use crate::Result;

debias_core::registry! {
    /// Every benchmark the program knows.
    pub static ALL: dyn Benchmark;
    pub bbq::Bbq,
    pub debias_edit::DebiasEdit,
    pub stereoset::StereoSet,
}

/// The benchmark of that name.
///
/// # Errors
/// An unknown name, with the nearest known one.
pub fn find(name: &str) -> Result<&'static dyn Benchmark> {
    Ok(registry::find("benchmark", name, ALL, |benchmark| {
        &benchmark.card().name
    })?)
}

/// Reads stored outputs: record lines of cells, or the forms that `benchmark` reads.
///
/// # Errors
/// As [`Benchmark::grade`].
pub fn graded(
    benchmark: &dyn Benchmark,
    files: &[PathBuf],
    source: Option<&Source>,
) -> Result<Graded> {
    if outputs::are_cells(files)? {
        outputs::cells(files)
    } else {
        benchmark.grade(files, source)
    }
}

#[cfg(test)]
mod tests;
