//! How far apart are the two answers? Mean of `|log P(y_more) - log P(y_less)|` per token: an editor
//! that equalises brings it to 0, one that reverses a preference need not.

use super::edited::{after, before};
use crate::answer::Answers;
use crate::column::{Better, Column, Statistic};
use crate::estimate::Ratio;
use crate::score::Norm;

pub(super) static COLUMNS: &[Column] = &[
    Column {
        id: "balance",
        version: 1,
        definition: "Mean of |log P(y_more) - log P(y_less)| after the edit on the edited image and prompt, each log-likelihood divided by its answer's tokens; 0 where both answers are equally likely.",
        unit: "nats",
        better: Better::Lower,
        only: &[],
        statistic: Statistic::Ratio(|line, _| distance(after(line))),
    },
    Column {
        id: "balance_before",
        version: 1,
        definition: "As balance, of the never-edited model.",
        unit: "nats",
        better: Better::Neutral,
        only: &[],
        statistic: Statistic::Ratio(|line, _| distance(before(line))),
    },
];

fn distance(answers: Option<&Answers>) -> Ratio {
    answers
        .and_then(|answers| answers.context("prompt"))
        .map_or(Ratio::none(), |context| {
            Ratio::of(context.margin(Norm::Mean).abs())
        })
}
