//! By how much is the unbiased answer more likely? Mean of `s(y_less) - s(y_more)`.

use super::{Better, Metric};
use crate::estimate::Share;

pub(super) static METRICS: &[Metric] = &[
    Metric {
        id: "margin_before",
        version: 1,
        definition: "Mean of s(y_less) - s(y_more) of the never-edited model on the edited image and prompt.",
        unit: "nats",
        better: Better::Neutral,
        share: |before, _, norm| Share::of(before.prompt.margin(norm)),
    },
    Metric {
        id: "margin_after",
        version: 1,
        definition: "Mean of s(y_less) - s(y_more) after the edit on the edited image and prompt.",
        unit: "nats",
        better: Better::Higher,
        share: |_, after, norm| Share::of(after.prompt.margin(norm)),
    },
    Metric {
        id: "t_margin_before",
        version: 1,
        definition: "As margin_before, with the rephrased prompt.",
        unit: "nats",
        better: Better::Neutral,
        share: |before, _, norm| Share::of(before.rephrase.margin(norm)),
    },
    Metric {
        id: "t_margin_after",
        version: 1,
        definition: "As margin_after, with the rephrased prompt.",
        unit: "nats",
        better: Better::Higher,
        share: |_, after, norm| Share::of(after.rephrase.margin(norm)),
    },
    Metric {
        id: "v_margin_before",
        version: 1,
        definition: "As margin_before, with the rephrased image.",
        unit: "nats",
        better: Better::Neutral,
        share: |before, _, norm| Share::of(before.image_rephrase.margin(norm)),
    },
    Metric {
        id: "v_margin_after",
        version: 1,
        definition: "As margin_after, with the rephrased image.",
        unit: "nats",
        better: Better::Higher,
        share: |_, after, norm| Share::of(after.image_rephrase.margin(norm)),
    },
];
