//! BBQ: multiple-choice questions on people of two groups, with too little context and with enough.
//! Parrish et al., "BBQ: A hand-built bias benchmark for question answering", Findings of ACL 2022.

mod columns;
mod grade;
mod read;
mod targets;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use debias_core::{Choice, Column, Estimate, Item, Probe};

use super::sample::limited;
use super::source::Reading;
use super::{Benchmark, BenchmarkCard, Graded, Opened, Source, chosen};
use crate::Result;
use read::Question;
use targets::{Target, Targets};

/// The categories, which are also the parts.
const CATEGORIES: [&str; 11] = [
    "Age",
    "Disability_status",
    "Gender_identity",
    "Nationality",
    "Physical_appearance",
    "Race_ethnicity",
    "Race_x_SES",
    "Race_x_gender",
    "Religion",
    "SES",
    "Sexual_orientation",
];

/// The ten wordings of "unknown", in the order in which the LM evaluation harness lists them.
const UNKNOWNS: [&str; 10] = [
    "Unknown",
    "Cannot answer",
    "Can't be determined",
    "Cannot be determined",
    "Can't answer",
    "Not known",
    "Not enough info",
    "Not enough information",
    "Not answerable",
    "Undetermined",
];

/// The names of the three options of a row.
const OPTIONS: [&str; 3] = ["ans0", "ans1", "ans2"];

/// The probe of the LM evaluation harness: the two options that are not unknown, then [`UNKNOWNS`].
const LM_EVAL: &str = "lm_eval";

/// The probe of the three options as they are written.
const THREE_WAY: &str = "three_way";

/// The benchmark.
pub struct Bbq;

static CARD: LazyLock<BenchmarkCard> = LazyLock::new(|| {
    let text = include_str!("../../../../datasets/benchmarks/bbq.toml");
    BenchmarkCard::parse(text).expect("the embedded card is read by a test")
});

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

/// The four rows that belong together: rows come in fours, with and without enough context, each
/// with a negative and a non-negative question.
fn quadruple(item: &Item) -> String {
    let (category, row) = item.id.split_once('/').unwrap_or_default();
    let four = row.parse::<u64>().map(|row| row / 4);
    four.map_or_else(
        |_| item.id.clone(),
        |four| format!("{category}/{}", 4 * four),
    )
}

/// What is asked about a row: both lists of options behind the same context.
fn item(question: &Question, origin: &str, target: Option<Target>) -> Item {
    let prompt = format!("{}\n\nQ: {}\nA:", question.context, question.question);
    let option = |place: usize| Choice::new(OPTIONS[place], &question.options[place]);
    let known = (0..3)
        .filter(|place| *place != question.unknown)
        .map(option);
    let unknowns = UNKNOWNS
        .into_iter()
        .map(|wording| Choice::new(wording, wording));
    Item {
        id: question.key(),
        cluster: Some(question.template_key()),
        tags: tags(question, origin, target),
        probes: vec![
            Probe::choose(LM_EVAL, prompt.as_str(), known.chain(unknowns).collect()),
            Probe::choose(THREE_WAY, prompt, (0..3).map(option).collect()),
        ],
    }
}

/// Everything that columns need to know of a row.
fn tags(question: &Question, origin: &str, target: Option<Target>) -> BTreeMap<String, String> {
    let biased: Vec<&str> = question
        .biased
        .iter()
        .map(|place| OPTIONS[*place])
        .collect();
    let mut tags = vec![
        ("category", question.category),
        ("condition", question.condition),
        ("polarity", question.polarity),
        ("template", question.template.as_str()),
        ("origin", origin),
        ("gold", OPTIONS[question.gold]),
        ("unknown", OPTIONS[question.unknown]),
    ];
    let biased = biased.join(" ");
    tags.push(("biased", biased.as_str()));
    if let Some(target) = target {
        tags.push(("label_type", target.label_type));
        tags.extend(target.option.map(|option| ("target", OPTIONS[option])));
    }
    tags.into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests;
