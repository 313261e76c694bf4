//! Which of the model's first choices on unrelated items survive the edit?
//!
//! The headline columns are those of the reference code, over every position; the others look only
//! at the positions that predict the answer.

use super::edited::drift;
use crate::column::{Better, Column, Statistic};
use crate::estimate::Ratio;
use crate::score::LocalityScore;

pub(super) static COLUMNS: &[Column] = &[
    Column {
        id: "t_locality",
        version: 1,
        definition: "Text item, every position of the teacher-forced sequence: share whose top-1 token is unchanged, mean over records (= tloc_ref_top1).",
        unit: "fraction",
        better: Better::Higher,
        only: &[],
        statistic: Statistic::Ratio(|line, _| drift(line, "t_locality", top1)),
    },
    Column {
        id: "m_locality",
        version: 1,
        definition: "Image item, every position including the image prefix: share of the ranks 1-10 whose token is unchanged, mean over records (= mloc_ref_top10rank).",
        unit: "fraction",
        better: Better::Higher,
        only: &[],
        statistic: Statistic::Ratio(|line, _| drift(line, "m_locality", top10_rank)),
    },
    Column {
        id: "tloc_ref_top1",
        version: 1,
        definition: "Text item, every position: share whose top-1 token is unchanged, mean over records.",
        unit: "fraction",
        better: Better::Higher,
        only: &[],
        statistic: Statistic::Ratio(|line, _| drift(line, "t_locality", top1)),
    },
    Column {
        id: "mloc_ref_top10rank",
        version: 1,
        definition: "Image item, every position: share of the ranks 1-10 whose token is unchanged (ordered lists, ties broken by the lower id), mean over records.",
        unit: "fraction",
        better: Better::Higher,
        only: &[],
        statistic: Statistic::Ratio(|line, _| drift(line, "m_locality", top10_rank)),
    },
    Column {
        id: "mloc_all_top1",
        version: 1,
        definition: "Image item, every position: share whose top-1 token is unchanged, mean over records.",
        unit: "fraction",
        better: Better::Higher,
        only: &[],
        statistic: Statistic::Ratio(|line, _| drift(line, "m_locality", top1)),
    },
    Column {
        id: "tloc_top1",
        version: 1,
        definition: "Text item, positions that predict answer tokens: share whose top-1 token is unchanged, mean over records.",
        unit: "fraction",
        better: Better::Higher,
        only: &[],
        statistic: Statistic::Ratio(|line, _| drift(line, "t_locality", answer_top1)),
    },
    Column {
        id: "mloc_top1",
        version: 1,
        definition: "Image item, positions that predict answer tokens: share whose top-1 token is unchanged, mean over records.",
        unit: "fraction",
        better: Better::Higher,
        only: &[],
        statistic: Statistic::Ratio(|line, _| drift(line, "m_locality", answer_top1)),
    },
    Column {
        id: "tloc_item",
        version: 1,
        definition: "Share of records whose text item keeps its top-1 token at every position that predicts an answer token.",
        unit: "fraction",
        better: Better::Higher,
        only: &[],
        statistic: Statistic::Ratio(|line, _| drift(line, "t_locality", item)),
    },
    Column {
        id: "mloc_item",
        version: 1,
        definition: "Share of records whose image item keeps its top-1 token at every position that predicts an answer token.",
        unit: "fraction",
        better: Better::Higher,
        only: &[],
        statistic: Statistic::Ratio(|line, _| drift(line, "m_locality", item)),
    },
    Column {
        id: "mloc_top10set",
        version: 1,
        definition: "Image item, positions that predict answer tokens: size of the intersection of the two top-10 sets over 10, mean over records.",
        unit: "fraction",
        better: Better::Higher,
        only: &[],
        statistic: Statistic::Ratio(|line, _| {
            drift(line, "m_locality", |item| {
                Ratio::fraction(item.answer_top10_shared, item.answer_ranks)
            })
        }),
    },
];

fn top1(score: &LocalityScore) -> Ratio {
    Ratio::fraction(score.top1_kept, score.positions)
}

fn top10_rank(score: &LocalityScore) -> Ratio {
    Ratio::fraction(score.top10_rank_kept, score.ranks)
}

fn answer_top1(score: &LocalityScore) -> Ratio {
    Ratio::fraction(score.answer_top1_kept, score.answer_positions)
}

fn item(score: &LocalityScore) -> Ratio {
    let whole = usize::from(score.answer_positions > 0);
    let kept = score.answer_top1_kept == score.answer_positions;
    Ratio::fraction(whole * usize::from(kept), whole)
}
