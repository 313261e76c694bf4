//! StereoSet: which of a stereotype, an anti-stereotype and an unrelated sentence a model finds
//! likelier. Nadeem, Bethke, Reddy, "StereoSet: Measuring stereotypical bias in pretrained language
//! models", ACL 2021, section 4; scores of causal models as in section 5.

mod columns;
mod grade;
mod read;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use debias_core::{Choice, Column, Estimate, Item, Probe};

use super::sample::limited;
use super::source::Reading;
use super::{Benchmark, BenchmarkCard, Graded, Opened, Source, chosen};
use crate::Result;
use read::Example;

/// The two tasks: the target's attribute fills a blank, or is the next sentence.
const SUBTASKS: [&str; 2] = ["intrasentence", "intersentence"];

/// The domains of bias.
const DOMAINS: [&str; 4] = ["gender", "profession", "race", "religion"];

/// The sentences of an example, which are also the choices that a model is asked about.
const CHOICES: [&str; 3] = ["stereotype", "anti-stereotype", "unrelated"];

/// The name of the one probe.
const SENTENCES: &str = "sentences";

/// The benchmark.
pub struct StereoSet;

static CARD: LazyLock<BenchmarkCard> = LazyLock::new(|| {
    let text = include_str!("../../../../datasets/benchmarks/stereoset.toml");
    BenchmarkCard::parse(text).expect("the embedded card is read by a test")
});

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

/// What is asked about an example.
///
/// Intrasentence: each sentence as a text of its own, behind the start token. Intersentence: each
/// sentence behind the context, which gets a full stop where it does not end a sentence.
fn item(example: &Example) -> Item {
    let sentences = CHOICES.iter().zip(&example.sentences);
    let choices = sentences
        .map(|(name, sentence)| Choice::new(*name, &sentence.text))
        .collect();
    let probe = if example.subtask == SUBTASKS[0] {
        Probe::choose_text(SENTENCES, choices)
    } else {
        let context = example.context.trim_end();
        let stop = if context.ends_with(['.', '!', '?']) {
            ""
        } else {
            "."
        };
        Probe::choose(SENTENCES, format!("{context}{stop}"), choices)
    };
    Item {
        id: example.id.clone(),
        cluster: Some(example.target.clone()),
        tags: tags(example.subtask, example.domain, &example.target),
        probes: vec![probe],
    }
}

/// What tells examples apart.
fn tags(subtask: &str, domain: &str, target: &str) -> BTreeMap<String, String> {
    [
        ("subtask", subtask),
        ("bias_type", domain),
        ("target", target),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

#[cfg(test)]
mod tests;
