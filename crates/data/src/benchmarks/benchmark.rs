//! The contract of a benchmark.

use std::collections::BTreeMap;
use std::path::PathBuf;

use debias_core::{Column, Estimate, ItemLine};

use super::card::BenchmarkCard;
use super::opened::{Graded, Opened};
use super::source::Source;
use crate::Result;

/// A benchmark the program knows by name.
pub trait Benchmark: Sync {
    /// The card embedded from `datasets/benchmarks/<name>.toml`.
    fn card(&self) -> &BenchmarkCard;

    /// What it is made of: subtasks, categories; each can be asked alone.
    fn parts(&self) -> &'static [&'static str];

    /// Reads the items of `parts` (all of them where none is named), `limit` of each stratum where
    /// one is given; `seed` orders the draw (`hex(sha256("{seed}:{name}:{key}"))` ascending).
    ///
    /// # Errors
    /// [`crate::Error::MissingData`] with where to get them, unknown parts, [`crate::Error::Rows`].
    fn open(
        &self,
        source: &Source,
        parts: &[String],
        limit: Option<usize>,
        seed: u64,
    ) -> Result<Opened>;

    /// Whether its columns compare with the answers of the unedited model.
    fn compares(&self) -> bool {
        false
    }

    /// Every column that is computed from its lines.
    fn columns(&self) -> &'static [Column];

    /// The ids of the columns that a table shows.
    fn headline(&self) -> &'static [&'static str];

    /// The tag by which tables are cut into blocks.
    fn block_tag(&self) -> Option<&'static str>;

    /// Reads stored outputs; `source` is needed where they name items without repeating them.
    ///
    /// # Errors
    /// A file that is not one of its forms of output, [`crate::Error::Rows`], [`crate::Error::NeedsData`].
    fn grade(&self, files: &[PathBuf], source: Option<&Source>) -> Result<Graded>;

    /// What the columns of one model say, in one sentence that claims nothing whose interval holds
    /// the ideal; none where the columns it speaks of are not there.
    fn sentence(&self, metrics: &BTreeMap<String, Estimate>) -> Option<String>;
}

/// The asked parts in the benchmark's order; all of them where none is asked.
pub(super) fn chosen(
    parts: &'static [&'static str],
    asked: &[String],
) -> Result<Vec<&'static str>> {
    let unknown = asked.iter().find(|name| !parts.contains(&name.as_str()));
    if let Some(name) = unknown {
        return Err(debias_core::Error::unknown("part", name, parts.iter().copied()).into());
    }
    let wanted = |part: &&&str| asked.is_empty() || asked.iter().any(|name| name == **part);
    Ok(parts.iter().filter(wanted).copied().collect())
}

/// Why a column has no value on these lines.
pub fn undefined(column: &Column, lines: &[ItemLine]) -> String {
    let admitted = |line: &&ItemLine| line.counts() && column.admits(line);
    match lines.iter().filter(admitted).count() {
        0 if column.only.is_empty() => "no item was answered".to_owned(),
        0 => {
            let tags = column
                .only
                .iter()
                .map(|(tag, value)| format!("{tag} {value}"));
            format!(
                "no answered item has {}",
                tags.collect::<Vec<_>>().join(", ")
            )
        }
        1 => format!("the one item leaves it undefined: {}", column.definition),
        n => format!("the {n} items leave it undefined: {}", column.definition),
    }
}
