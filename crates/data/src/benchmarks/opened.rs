//! What is read of a benchmark: its items, or somebody's answers to them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use debias_core::{Item, ItemLine};
use serde_json::Value;

/// The items of a benchmark.
#[derive(Clone, Debug)]
pub struct Opened {
    /// In the order of the files, part by part.
    pub items: Vec<Item>,
    /// SHA-256 of every text that was read, by its name in the card.
    pub files: BTreeMap<String, String>,
    /// SHA-256 over names and digests.
    pub digest: String,
    /// The folder that the keys of pictures are relative to, where there are any.
    pub pictures: Option<PathBuf>,
    /// Whether these are the items as published; a stand-in or a changed file is not.
    pub official: bool,
    /// What every report on them must say.
    pub notes: Vec<String>,
    /// The parts that were read, in the benchmark's order.
    pub parts: Vec<String>,
}

/// Stored outputs, read as lines.
#[derive(Clone, Debug)]
pub struct Graded {
    /// One set of lines per model that was graded, with the name that its file gives it.
    pub sets: Vec<(String, Vec<ItemLine>)>,
    /// The figures in the form in which the benchmark's own tools print them.
    pub figures: Value,
    /// Whether all items are those of the benchmark as published.
    pub official: bool,
    /// What every report on them must say.
    pub notes: Vec<String>,
}
