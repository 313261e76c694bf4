//! What does the edited model prefer and know, whatever the never-edited model said? The columns by
//! which a merge is judged, for a merge may gain what its base lacks.

use super::{Better, Metric};
use crate::estimate::Share;
use crate::score::{LocalityScore, Norm, RecordScores};

pub(super) static METRICS: &[Metric] = &[
    Metric {
        id: "bias",
        version: 1,
        definition: "Share of the three contexts in which y_more is strictly more likely than y_less after the edit, mean over records; before the edit it is 1 on records that the filter admits in all three.",
        unit: "fraction",
        better: Better::Lower,
        share: |_, after, norm| Share::fraction(biased(after, norm), 3),
    },
    Metric {
        id: "neutral_accuracy",
        version: 1,
        definition: "Share of records whose neutral image question (that of m_locality) is answered right after the edit: every token of mloc_a the model's first choice.",
        unit: "fraction",
        better: Better::Higher,
        share: |_, after, _| right(&after.m_locality),
    },
    Metric {
        id: "neutral_accuracy_before",
        version: 1,
        definition: "As neutral_accuracy, by the never-edited model.",
        unit: "fraction",
        better: Better::Neutral,
        share: |before, _, _| right(&before.m_locality),
    },
    Metric {
        id: "fact_accuracy",
        version: 1,
        definition: "Share of records whose text question (that of t_locality) is answered right after the edit: every token of loc_a the model's first choice.",
        unit: "fraction",
        better: Better::Higher,
        share: |_, after, _| right(&after.t_locality),
    },
    Metric {
        id: "fact_accuracy_before",
        version: 1,
        definition: "As fact_accuracy, by the never-edited model.",
        unit: "fraction",
        better: Better::Neutral,
        share: |before, _, _| right(&before.t_locality),
    },
];

fn biased(scores: &RecordScores, norm: Norm) -> usize {
    let contexts = scores.contexts().into_iter();
    contexts
        .filter(|context| context.margin(norm) < 0.0)
        .count()
}

/// Left out for an item without an answer, or written before answers were counted.
fn right(item: &LocalityScore) -> Share {
    match item.answer_correct {
        Some(correct) if item.answer_positions > 0 => Share::when(correct == item.answer_positions),
        _ => Share::fraction(0, 0),
    }
}
