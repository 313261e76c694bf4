//! The benchmark's card, and the names of its parts, tags and choices.

use std::sync::LazyLock;

use super::super::card::BenchmarkCard;

/// The two tasks: the target's attribute fills a blank, or is the next sentence.
pub(super) const SUBTASKS: [&str; 2] = ["intrasentence", "intersentence"];

/// The domains of bias.
pub(super) const DOMAINS: [&str; 4] = ["gender", "profession", "race", "religion"];

/// The sentences of an example, which are also the choices that a model is asked about.
pub(super) const CHOICES: [&str; 3] = ["stereotype", "anti-stereotype", "unrelated"];

/// The name of the one probe.
pub(super) const SENTENCES: &str = "sentences";

/// The embedded card.
pub(super) static CARD: LazyLock<BenchmarkCard> = LazyLock::new(|| {
    let text = include_str!("../../../../../datasets/benchmarks/stereoset.toml");
    BenchmarkCard::parse(text).expect("the embedded card is read by a test")
});
