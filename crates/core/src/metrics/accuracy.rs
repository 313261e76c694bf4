//! Does the edited model say the target token by token, when shown what precedes it?
//!
//! The columns of EasyEdit. Teacher forcing reveals the prefix, so they flatter every editor.

use super::{Better, Metric};
use crate::estimate::Share;

pub(super) static METRICS: &[Metric] = &[
    Metric {
        id: "acc_token",
        version: 1,
        definition: "Tokens of y_less that are the edited model's arg-max under teacher forcing, on the edited image and prompt, over all such tokens of all records (joint ids, shifted labels).",
        unit: "fraction",
        better: Better::Higher,
        share: |_, after, _| Share::pooled(after.prompt.y_less.correct, after.prompt.y_less.tokens),
    },
    Metric {
        id: "acc_exact",
        version: 1,
        definition: "Share of records of which every token of y_less is the edited model's arg-max under teacher forcing, on the edited image and prompt.",
        unit: "fraction",
        better: Better::Higher,
        share: |_, after, _| Share::when(after.prompt.y_less.correct == after.prompt.y_less.tokens),
    },
];
