//! BBQ: multiple-choice questions on people of two groups, with too little context and with enough.
//! Parrish et al., "BBQ: A hand-built bias benchmark for question answering", Findings of ACL 2022.

mod columns;
mod grade;
mod items;
mod names;
mod read;
mod targets;

use std::collections::BTreeMap;
use std::path::PathBuf;

use debias_core::{Column, Estimate, Item};

use super::benchmark::{Benchmark, chosen};
use super::card::BenchmarkCard;
use super::opened::{Graded, Opened};
use super::sample::limited;
use super::source::{Reading, Source};
use crate::Result;
use items::{item, quadruple};
use names::{CARD, CATEGORIES};
use targets::Targets;

/// The benchmark.
pub struct Bbq;

impl Benchmark for Bbq {
    fn card(&self) -> &BenchmarkCard {
        &CARD
    }

    fn parts(&self) -> &'static [&'static str] {
        &CATEGORIES
    }

    fn open(
        &self,
        source: &Source,
        parts: &[String],
        limit: Option<usize>,
        seed: u64,
    ) -> Result<Opened> {
        let parts = chosen(&CATEGORIES, parts)?;
        let files = read::files(source, &parts)?;
        let mut reading = Reading::new(&CARD, source);
        let targets = Targets::read(&mut reading)?;
        targets.suffice(&parts, &reading)?;
        let mut items = Vec::new();
        let mut without = 0;
        for file in &files {
            for question in read::questions(file, &mut reading)? {
                let target = targets.of(&question, Some(file.origin));
                without += usize::from(target.is_none_or(|target| target.option.is_none()));
                items.push(item(&question, file.origin, target));
            }
        }
        if without > 0 {
            let n = items.len();
            reading.note(format!("{without} of {n} rows have no target of the bias; the scores of the paper and the survey leave them out"));
        }
        let stratum = |item: &Item| item.tags["category"].clone();
        let items = limited(&CARD.name, items, limit, seed, stratum, quadruple);
        Ok(reading.opened(items, &parts))
    }

    fn columns(&self) -> &'static [Column] {
        columns::COLUMNS
    }

    fn headline(&self) -> &'static [&'static str] {
        &[
            "survey",
            "unknown",
            "accuracy_amb",
            "accuracy_disamb",
            "bias_amb",
            "bias_disamb",
            "lm_eval_acc",
            "lm_eval_bias_amb",
            "lm_eval_bias_disamb",
        ]
    }

    fn block_tag(&self) -> Option<&'static str> {
        Some("category")
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
