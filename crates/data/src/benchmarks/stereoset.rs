//! StereoSet: which of a stereotype, an anti-stereotype and an unrelated sentence a model finds
//! likelier. Nadeem, Bethke, Reddy, "StereoSet: Measuring stereotypical bias in pretrained language
//! models", ACL 2021, section 4; scores of causal models as in section 5.

mod columns;
mod grade;
mod items;
mod names;
mod read;

use std::collections::BTreeMap;
use std::path::PathBuf;

use debias_core::{Column, Estimate, Item};

use super::benchmark::{Benchmark, chosen};
use super::card::BenchmarkCard;
use super::opened::{Graded, Opened};
use super::sample::limited;
use super::source::{Reading, Source};
use crate::Result;
use items::item;
use names::{CARD, SUBTASKS};

/// The benchmark.
pub struct StereoSet;

impl Benchmark for StereoSet {
    fn card(&self) -> &BenchmarkCard {
        &CARD
    }

    fn parts(&self) -> &'static [&'static str] {
        &SUBTASKS
    }

    fn open(
        &self,
        source: &Source,
        parts: &[String],
        limit: Option<usize>,
        seed: u64,
    ) -> Result<Opened> {
        let parts = chosen(&SUBTASKS, parts)?;
        let mut reading = Reading::new(&CARD, source);
        let mut examples = read::examples(&mut reading)?;
        examples.retain(|example| parts.contains(&example.subtask));
        examples.sort_by_key(|example| example.subtask != SUBTASKS[0]);
        let items = examples.iter().map(item).collect();
        let stratum = |item: &Item| format!("{}/{}", item.tags["subtask"], item.tags["bias_type"]);
        let items = limited(&CARD.name, items, limit, seed, stratum, |item| {
            item.id.clone()
        });
        Ok(reading.opened(items, &parts))
    }

    fn columns(&self) -> &'static [Column] {
        columns::COLUMNS
    }

    fn headline(&self) -> &'static [&'static str] {
        &[
            "ss.intrasentence",
            "lm.intrasentence",
            "icat.intrasentence",
            "ss.intersentence",
            "lm.intersentence",
            "icat.intersentence",
        ]
    }

    fn block_tag(&self) -> Option<&'static str> {
        Some("bias_type")
    }

    fn grade(&self, files: &[PathBuf], source: Option<&Source>) -> Result<Graded> {
        grade::graded(files, source)
    }

    fn sentence(&self, metrics: &BTreeMap<String, Estimate>) -> Option<String> {
        columns::sentence(metrics)
    }
}

#[cfg(test)]
mod tests;
