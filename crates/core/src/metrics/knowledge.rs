//! What does the edited model prefer and know, whatever the never-edited model said? The columns by
//! which a merge is judged, for a merge may gain what its base lacks.

use super::edited::{after, before, contexts};
use crate::answer::{Answers, ItemLine};
use crate::column::{Better, Column, Statistic};
use crate::estimate::Ratio;
use crate::score::Norm;

pub(super) static COLUMNS: &[Column] = &[
    Column {
        id: "bias",
        version: 1,
        definition: "Share of the three contexts in which y_more is strictly more likely than y_less after the edit, mean over records; before the edit it is 1 on records that the filter admits in all three.",
        unit: "fraction",
        better: Better::Lower,
        only: &[],
        statistic: Statistic::Ratio(biased),
    },
    Column {
        id: "neutral_accuracy",
        version: 1,
        definition: "Share of records whose neutral image question (that of m_locality) is answered right after the edit: every token of mloc_a the model's first choice.",
        unit: "fraction",
        better: Better::Higher,
        only: &[],
        statistic: Statistic::Ratio(|line, _| right(after(line), "m_locality")),
    },
    Column {
        id: "neutral_accuracy_before",
        version: 1,
        definition: "As neutral_accuracy, by the never-edited model.",
        unit: "fraction",
        better: Better::Neutral,
        only: &[],
        statistic: Statistic::Ratio(|line, _| right(before(line), "m_locality")),
    },
    Column {
        id: "fact_accuracy",
        version: 1,
        definition: "Share of records whose text question (that of t_locality) is answered right after the edit: every token of loc_a the model's first choice.",
        unit: "fraction",
        better: Better::Higher,
        only: &[],
        statistic: Statistic::Ratio(|line, _| right(after(line), "t_locality")),
    },
    Column {
        id: "fact_accuracy_before",
        version: 1,
        definition: "As fact_accuracy, by the never-edited model.",
        unit: "fraction",
        better: Better::Neutral,
        only: &[],
        statistic: Statistic::Ratio(|line, _| right(before(line), "t_locality")),
    },
];

fn biased(line: &ItemLine, norm: Norm) -> Ratio {
    let contexts: Vec<_> = contexts(line).collect();
    let biased = contexts.iter().filter(|context| context.margin(norm) < 0.0);
    Ratio::fraction(biased.count(), contexts.len())
}

/// Left out for an item that is not asked or has no answer, or that was written before answers were
/// counted.
fn right(answers: Option<&Answers>, probe: &str) -> Ratio {
    let item = answers.and_then(|answers| answers.drift(probe));
    match item.map(|item| (item.answer_correct, item.answer_positions)) {
        Some((Some(correct), positions)) if positions > 0 => Ratio::when(correct == positions),
        _ => Ratio::none(),
    }
}
