//! The benchmark's card, and the names of its parts, probes and options.

use std::sync::LazyLock;

use super::super::card::BenchmarkCard;

/// The categories, which are also the parts.
pub(super) const CATEGORIES: [&str; 11] = [
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
pub(super) const UNKNOWNS: [&str; 10] = [
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
pub(super) const OPTIONS: [&str; 3] = ["ans0", "ans1", "ans2"];

/// The probe of the LM evaluation harness: the two options that are not unknown, then [`UNKNOWNS`].
pub(super) const LM_EVAL: &str = "lm_eval";

/// The probe of the three options as they are written.
pub(super) const THREE_WAY: &str = "three_way";

/// The embedded card.
pub(super) static CARD: LazyLock<BenchmarkCard> = LazyLock::new(|| {
    let text = include_str!("../../../../../datasets/benchmarks/bbq.toml");
    BenchmarkCard::parse(text).expect("the embedded card is read by a test")
});
