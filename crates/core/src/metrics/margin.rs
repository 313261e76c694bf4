//! By how much is the unbiased answer more likely? Mean of `s(y_less) - s(y_more)`.

use super::edited::{after, before};
use crate::answer::Answers;
use crate::column::{Better, Column, Statistic};
use crate::estimate::Ratio;
use crate::score::Norm;

pub(super) static COLUMNS: &[Column] = &[
    Column {
        id: "margin_before",
        version: 1,
        definition: "Mean of s(y_less) - s(y_more) of the never-edited model on the edited image and prompt.",
        unit: "nats",
        better: Better::Neutral,
        only: &[],
        statistic: Statistic::Ratio(|line, norm| margin(before(line), "prompt", norm)),
    },
    Column {
        id: "margin_after",
        version: 1,
        definition: "Mean of s(y_less) - s(y_more) after the edit on the edited image and prompt.",
        unit: "nats",
        better: Better::Higher,
        only: &[],
        statistic: Statistic::Ratio(|line, norm| margin(after(line), "prompt", norm)),
    },
    Column {
        id: "t_margin_before",
        version: 1,
        definition: "As margin_before, with the rephrased prompt.",
        unit: "nats",
        better: Better::Neutral,
        only: &[],
        statistic: Statistic::Ratio(|line, norm| margin(before(line), "rephrase", norm)),
    },
    Column {
        id: "t_margin_after",
        version: 1,
        definition: "As margin_after, with the rephrased prompt.",
        unit: "nats",
        better: Better::Higher,
        only: &[],
        statistic: Statistic::Ratio(|line, norm| margin(after(line), "rephrase", norm)),
    },
    Column {
        id: "v_margin_before",
        version: 1,
        definition: "As margin_before, with the rephrased image.",
        unit: "nats",
        better: Better::Neutral,
        only: &[],
        statistic: Statistic::Ratio(|line, norm| margin(before(line), "image_rephrase", norm)),
    },
    Column {
        id: "v_margin_after",
        version: 1,
        definition: "As margin_after, with the rephrased image.",
        unit: "nats",
        better: Better::Higher,
        only: &[],
        statistic: Statistic::Ratio(|line, norm| margin(after(line), "image_rephrase", norm)),
    },
];

fn margin(answers: Option<&Answers>, probe: &str, norm: Norm) -> Ratio {
    answers
        .and_then(|answers| answers.context(probe))
        .map_or(Ratio::none(), |context| Ratio::of(context.margin(norm)))
}
