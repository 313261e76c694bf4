//! How far do the distributions on unrelated items move? KL(base ‖ edited), in nats.

use super::{Better, Metric};
use crate::estimate::Share;

pub(super) static METRICS: &[Metric] = &[
    Metric {
        id: "tloc_kl",
        version: 1,
        definition: "Text item: KL(base || edited), mean over the positions that predict answer tokens, then over records.",
        unit: "nats",
        better: Better::Lower,
        share: |_, after, _| Share::of(after.t_locality.answer_kl),
    },
    Metric {
        id: "mloc_kl",
        version: 1,
        definition: "Image item: KL(base || edited), mean over the positions that predict answer tokens, then over records.",
        unit: "nats",
        better: Better::Lower,
        share: |_, after, _| Share::of(after.m_locality.answer_kl),
    },
    Metric {
        id: "tloc_kl_all",
        version: 1,
        definition: "Text item: KL(base || edited), mean over every position, then over records.",
        unit: "nats",
        better: Better::Lower,
        share: |_, after, _| Share::of(after.t_locality.kl),
    },
    Metric {
        id: "mloc_kl_all",
        version: 1,
        definition: "Image item: KL(base || edited), mean over every position including the image prefix, then over records.",
        unit: "nats",
        better: Better::Lower,
        share: |_, after, _| Share::of(after.m_locality.kl),
    },
];
