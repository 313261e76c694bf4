//! How far do the distributions on unrelated items move? KL(base ‖ edited), in nats.

use super::edited::drift;
use crate::column::{Better, Column, Statistic};
use crate::estimate::Ratio;

pub(super) static COLUMNS: &[Column] = &[
    Column {
        id: "tloc_kl",
        version: 1,
        definition: "Text item: KL(base || edited), mean over the positions that predict answer tokens, then over records.",
        unit: "nats",
        better: Better::Lower,
        only: &[],
        statistic: Statistic::Ratio(|line, _| {
            drift(line, "t_locality", |item| Ratio::of(item.answer_kl))
        }),
    },
    Column {
        id: "mloc_kl",
        version: 1,
        definition: "Image item: KL(base || edited), mean over the positions that predict answer tokens, then over records.",
        unit: "nats",
        better: Better::Lower,
        only: &[],
        statistic: Statistic::Ratio(|line, _| {
            drift(line, "m_locality", |item| Ratio::of(item.answer_kl))
        }),
    },
    Column {
        id: "tloc_kl_all",
        version: 1,
        definition: "Text item: KL(base || edited), mean over every position, then over records.",
        unit: "nats",
        better: Better::Lower,
        only: &[],
        statistic: Statistic::Ratio(|line, _| drift(line, "t_locality", |item| Ratio::of(item.kl))),
    },
    Column {
        id: "mloc_kl_all",
        version: 1,
        definition: "Image item: KL(base || edited), mean over every position including the image prefix, then over records.",
        unit: "nats",
        better: Better::Lower,
        only: &[],
        statistic: Statistic::Ratio(|line, _| drift(line, "m_locality", |item| Ratio::of(item.kl))),
    },
];
