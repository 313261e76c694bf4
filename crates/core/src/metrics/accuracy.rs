//! Does the edited model say the target token by token, when shown what precedes it?
//!
//! The columns of EasyEdit. Teacher forcing reveals the prefix, so they flatter every editor.

use super::edited::after;
use crate::answer::{ItemLine, Y_LESS};
use crate::column::{Better, Column, Statistic};
use crate::estimate::Ratio;
use crate::score::AnswerScore;

pub(super) static COLUMNS: &[Column] = &[
    Column {
        id: "acc_token",
        version: 1,
        definition: "Tokens of y_less that are the edited model's arg-max under teacher forcing, on the edited image and prompt, over all such tokens of all records (joint ids, shifted labels).",
        unit: "fraction",
        better: Better::Higher,
        only: &[],
        statistic: Statistic::Ratio(|line, _| {
            target(line, |said| Ratio::pooled(said.correct, said.tokens))
        }),
    },
    Column {
        id: "acc_exact",
        version: 1,
        definition: "Share of records of which every token of y_less is the edited model's arg-max under teacher forcing, on the edited image and prompt.",
        unit: "fraction",
        better: Better::Higher,
        only: &[],
        statistic: Statistic::Ratio(|line, _| {
            target(line, |said| Ratio::when(said.correct == said.tokens))
        }),
    },
];

fn target(line: &ItemLine, of: impl Fn(AnswerScore) -> Ratio) -> Ratio {
    after(line)
        .and_then(|answers| *answers.choices("prompt")?.get(Y_LESS)?)
        .map_or(Ratio::none(), of)
}
