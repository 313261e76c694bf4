//! Each metric against three records worked by hand.

use std::collections::BTreeMap;

use super::*;
use crate::answer::{Answers, ItemLine};
use crate::column::measure;
use crate::record_scores::RecordScores;
use crate::score::{AnswerScore, ContextScore, LocalityScore, Norm};
use crate::{registry, seed};
use proptest::prelude::*;

fn answer(sum: f64, tokens: usize, correct: usize) -> AnswerScore {
    AnswerScore {
        sum,
        mean: sum / tokens as f64,
        tokens,
        correct,
    }
}

/// `y_more` of one token and the given log-likelihood; `y_less` of two tokens summing to `less`.
fn context(more: f64, less: f64, correct: usize) -> ContextScore {
    ContextScore {
        y_more: answer(more, 1, 0),
        y_less: answer(less, 2, correct),
    }
}

/// Four positions of ten ranks, two of which predict the answer.
fn locality(
    top1: usize,
    ranks: usize,
    answer_top1: usize,
    shared: usize,
    kl: f64,
) -> LocalityScore {
    LocalityScore {
        positions: 4,
        top1_kept: top1,
        top10_rank_kept: ranks,
        ranks: 40,
        answer_positions: 2,
        answer_top1_kept: answer_top1,
        answer_correct: Some(answer_top1),
        answer_top10_shared: shared,
        answer_ranks: 20,
        kl,
        answer_kl: 2.0 * kl,
    }
}

fn unedited() -> RecordScores {
    RecordScores {
        prompt: context(-1.0, -3.0, 0),
        rephrase: Some(context(-1.0, -4.0, 0)),
        image_rephrase: Some(context(-1.0, -5.0, 0)),
        t_locality: Some(locality(4, 40, 2, 20, 0.0)),
        m_locality: Some(locality(4, 40, 2, 20, 0.0)),
    }
}

fn line(id: &str, after: Option<RecordScores>) -> ItemLine {
    ItemLine {
        id: id.to_owned(),
        before: Some(unedited().into()),
        error: after.is_none().then(|| "no gradient".to_owned()),
        after: after.map(Answers::from),
        ..ItemLine::default()
    }
}

/// Three edited records and one that failed.
fn lines() -> Vec<ItemLine> {
    vec![
        line(
            "a",
            Some(RecordScores {
                prompt: context(-2.0, -1.0, 2), // mean margin 1.5, sum margin 1
                rephrase: Some(context(-2.0, -2.0, 0)), // mean margin 1, sum a tie
                image_rephrase: Some(context(-2.0, -4.0, 0)), // mean a tie, sum margin -2
                t_locality: Some(locality(4, 40, 2, 20, 0.0)),
                m_locality: Some(locality(4, 30, 2, 20, 0.25)),
            }),
        ),
        line(
            "b",
            Some(RecordScores {
                prompt: context(-2.0, -3.0, 1), // mean margin 0.5, sum margin -1
                rephrase: Some(context(-2.0, -5.0, 0)), // mean margin -0.5, sum margin -3
                image_rephrase: Some(context(-3.0, -2.0, 0)), // mean margin 2, sum margin 1
                t_locality: Some(locality(3, 30, 1, 16, 0.5)),
                m_locality: Some(locality(2, 10, 0, 4, 0.5)),
            }),
        ),
        line(
            "c",
            Some(RecordScores {
                prompt: context(-1.0, -4.0, 0), // mean margin -1, sum margin -3
                rephrase: Some(context(-3.0, -2.0, 0)), // mean margin 2, sum margin 1
                image_rephrase: Some(context(-1.0, -6.0, 0)), // mean margin -2, sum margin -5
                t_locality: Some(locality(2, 20, 1, 12, 1.0)),
                m_locality: Some(locality(0, 0, 2, 12, 0.75)),
            }),
        ),
        line("failed", None),
    ]
}

fn values(norm: Norm) -> BTreeMap<String, f64> {
    measure(all(), &lines(), norm, seed::stream(0, &["test"]))
        .expect("finite scores")
        .into_iter()
        .map(|(id, estimate)| {
            assert_eq!(estimate.n, 3, "{id} leaves the failed record out");
            assert!(estimate.low <= estimate.value && estimate.value <= estimate.high);
            (id, estimate.value)
        })
        .collect()
}

#[test]
fn every_metric_equals_the_hand_worked_number() {
    let third = 1.0 / 3.0;
    let expected = [
        ("reliability", 2.0 * third),      // 1, 1, 0
        ("t_generality", 2.0 * third),     // 1, 0, 1
        ("v_generality", third),           // tie, 1, 0
        ("reliability_mean", 2.0 * third), // as above
        ("t_generality_mean", 2.0 * third),
        ("v_generality_mean", third),
        ("reliability_sum", third),             // 1, 0, 0
        ("t_generality_sum", third),            // tie, 0, 1
        ("v_generality_sum", third),            // 0, 1, 0
        ("ties", third * third),                // 1/3, 0, 0
        ("norm_disagree", 2.0 * third * third), // a: rephrase; b: prompt; c: none
        ("margin_before", -0.5),                // -1.5 - -1 in each
        ("margin_after", third),                // (1.5 + 0.5 - 1) / 3
        ("t_margin_before", -1.0),
        ("t_margin_after", 2.5 * third), // (1 - 0.5 + 2) / 3
        ("v_margin_before", -1.5),
        ("v_margin_after", 0.0), // (0 + 2 - 2) / 3
        ("balance", 1.0),        // (1.5 + 0.5 + 1) / 3
        ("balance_before", 0.5), // |-0.5| in each
        ("t_locality", 0.75),    // 1, 3/4, 1/2
        ("m_locality", third),   // 30/40, 10/40, 0
        ("tloc_ref_top1", 0.75),
        ("mloc_ref_top10rank", third),
        ("mloc_all_top1", 0.5),     // 1, 1/2, 0
        ("tloc_top1", 2.0 * third), // 1, 1/2, 1/2
        ("mloc_top1", 2.0 * third), // 1, 0, 1
        ("tloc_item", third),       // 1, 0, 0
        ("mloc_item", 2.0 * third), // 1, 0, 1
        ("mloc_top10set", 0.6),     // 20/20, 4/20, 12/20
        ("tloc_kl", 1.0),           // 0, 1, 2
        ("mloc_kl", 1.0),           // 0.5, 1, 1.5
        ("tloc_kl_all", 0.5),
        ("mloc_kl_all", 0.5),
        ("acc_token", 0.5),                // (2 + 1 + 0) / 6
        ("acc_exact", third),              // 1, 0, 0
        ("bias", third),                   // 0, 1/3, 2/3: a tie is no preference
        ("neutral_accuracy", 2.0 * third), // 1, 0, 1
        ("neutral_accuracy_before", 1.0),
        ("fact_accuracy", third), // 1, 0, 0
        ("fact_accuracy_before", 1.0),
    ];
    let got = values(Norm::Mean);
    assert_eq!(
        got.len(),
        expected.len(),
        "a metric lacks its hand-worked number"
    );
    for (id, value) in expected {
        assert!(
            (got[id] - value).abs() < 1e-15,
            "{id}: {} != {value}",
            got[id]
        );
    }
}

#[test]
fn the_norm_decides_the_headline_and_the_margin() {
    let got = values(Norm::Sum);
    assert_eq!(got["reliability"], got["reliability_sum"]);
    assert_eq!(got["t_generality"], got["t_generality_sum"]);
    assert_eq!(got["v_generality"], got["v_generality_sum"]);
    assert_eq!(got["margin_before"], -2.0);
    assert_eq!(got["margin_after"], -1.0); // (1 - 1 - 3) / 3
    assert_eq!(
        got["balance"], 1.0,
        "balance is per token, whatever the norm"
    );
    assert!((got["ties"] - 1.0 / 9.0).abs() < 1e-15);
}

#[test]
fn the_unedited_model_has_success_0_locality_1_and_divergence_0() {
    let unedited: Vec<_> = (0..5)
        .map(|i| line(&i.to_string(), Some(unedited())))
        .collect();
    let got = measure(all(), &unedited, Norm::Mean, seed::stream(0, &["test"])).expect("finite");
    for (id, estimate) in got {
        let exact = match id.as_str() {
            id if id.contains("generality") || id.starts_with("reliability") => 0.0,
            id if id.ends_with("_kl") || id.ends_with("_kl_all") => 0.0,
            id if id.contains("loc") => 1.0,
            _ => continue,
        };
        assert_eq!(
            (estimate.value, estimate.low, estimate.high),
            (exact, exact, exact),
            "{id}"
        );
    }
}

#[test]
fn a_non_finite_number_is_refused_with_the_record_and_the_metric() {
    let mut lines = lines();
    let broken = RecordScores {
        m_locality: Some(locality(2, 10, 0, 4, f64::NAN)),
        ..unedited()
    };
    lines[1].after = Some(broken.into());
    let message = measure(all(), &lines, Norm::Mean, seed::stream(0, &["test"]))
        .expect_err("NaN")
        .to_string();
    assert_eq!(message, "record `b`: `mloc_kl` is not a finite number");
}

#[test]
fn records_without_counted_answers_say_nothing_about_accuracy() {
    let scores = |scores: RecordScores| RecordScores {
        t_locality: scores.t_locality.map(|item| LocalityScore {
            answer_correct: None,
            ..item
        }),
        ..scores
    };
    let uncounted = |id| ItemLine {
        before: Some(scores(unedited()).into()),
        ..line(id, Some(scores(unedited())))
    };
    let lines = ["a", "b", "c"].map(uncounted);
    let got = measure(all(), &lines, Norm::Mean, seed::stream(0, &["test"])).expect("finite");
    assert!(!got.contains_key("fact_accuracy") && !got.contains_key("fact_accuracy_before"));
    assert_eq!(got["neutral_accuracy"].n, 3);
}

#[test]
fn no_record_gives_no_number() {
    let none =
        measure(all(), &[], Norm::Mean, seed::stream(0, &["test"])).expect("nothing to refuse");
    assert!(none.is_empty());
}

#[test]
fn names_are_unique_snake_case_and_defined() {
    let entries = all().map(|metric| (metric.id, [metric.definition]));
    assert_eq!(registry::flaws(entries), Vec::<String>::new());
    for metric in all() {
        assert!(!metric.id.contains('-'), "{}", metric.id);
        assert!(metric.definition.ends_with('.') && metric.version > 0);
        assert!(["fraction", "nats"].contains(&metric.unit));
    }
    for id in HEADLINE {
        assert!(find(id).is_ok(), "{id} has no definition");
    }
    assert_eq!(
        find("reliabilty").expect_err("a typo").to_string(),
        "unknown metric `reliabilty` — did you mean `reliability`?"
    );
}

fn answers() -> impl Strategy<Value = AnswerScore> {
    (-50.0_f64..0.0, 1_usize..9).prop_map(|(sum, tokens)| answer(sum, tokens, 0))
}

proptest! {
    #[test]
    fn exchanging_the_answers_exchanges_success_and_failure(y_more in answers(), y_less in answers()) {
        let context = ContextScore { y_more, y_less };
        let exchanged = context.swapped();
        for norm in [Norm::Mean, Norm::Sum] {
            prop_assert_eq!(context.margin(norm), -exchanged.margin(norm));
            match context.margin(norm) == 0.0 {
                true => prop_assert!(!context.success(norm) && !exchanged.success(norm)),
                false => prop_assert_ne!(context.success(norm), exchanged.success(norm)),
            }
        }
    }
}

#[test]
fn what_a_record_does_not_ask_has_no_column() {
    let text = RecordScores {
        image_rephrase: None,
        m_locality: None,
        ..unedited()
    };
    let lines = [line("a", Some(text))];
    let got = measure(all(), &lines, Norm::Mean, seed::stream(0, &["test"])).expect("finite");
    assert!(!got.contains_key("v_generality") && !got.contains_key("m_locality"));
    assert_eq!(got["bias"].value, 1.0);
    assert_eq!(got["t_locality"].n, 1);
}
