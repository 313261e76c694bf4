//! C13 to C15: the two answers are asked for alike, and neither knows of the other.

use std::sync::Arc;

use debias_core::{Norm, Record, RecordScores, Unrelated};
use debias_model::{Model, Question};

use super::Verdict;
use super::trial::{Trial, furthest, relative};
use crate::editor::Request;
use crate::error::Result;

/// What a score may depend on its company by.
const INVARIANT: f64 = 1e-5;
/// Margins below this are ties.
const TIE: f64 = 1e-4;

/// C13. Through the empty edit success is 0 on admitted records, locality 1, KL 0, and every
/// log-likelihood the same bits.
pub(super) fn base_row(trial: &Trial) -> Result<Verdict> {
    let admission = trial.world.admission;
    let after = trial.through(&Arc::default())?;
    let scored = trial
        .world
        .eval
        .iter()
        .zip(trial.chunk.before())
        .zip(&after);
    let problems: Vec<String> = scored
        .filter_map(|((record, before), after)| {
            admission.check_unedited(&record.id, before, after).err()
        })
        .map(|error| error.to_string())
        .collect();
    Ok(Verdict::of(
        problems,
        format!("locality 1 and KL 0 on {} records", after.len()),
    ))
}

/// C14. With the answers of a record exchanged, and the edit as it was, success becomes failure.
pub(super) fn symmetry(trial: &Trial) -> Result<Verdict> {
    let swapped = trial.world.eval.iter().cloned().map(Record::swapped);
    let swapped = trial.world.chunk(swapped.collect())?;
    let norm = trial.world.admission.norm;
    let mut problems = exchanged("unedited", trial.chunk.before(), swapped.before(), norm);
    let (a, b) = (
        trial.chunk.after(&trial.edits)?,
        swapped.after(&trial.edits)?,
    );
    problems.extend(exchanged("edited", &a, &b, norm));
    Ok(Verdict::of(
        problems,
        "exchanged answers exchange their log-likelihoods, success and failure",
    ))
}

/// What is wrong with the scores of records whose answers were exchanged.
fn exchanged(
    how: &str,
    straight: &[RecordScores],
    swapped: &[RecordScores],
    norm: Norm,
) -> Vec<String> {
    let mut problems = Vec::new();
    let back: Vec<RecordScores> = swapped.iter().map(|scores| scores.swapped()).collect();
    let off = furthest(straight, &back);
    if off > INVARIANT {
        problems.push(format!(
            "{how}, log-likelihoods of exchanged answers are off by {off:.1e}"
        ));
    }
    let contexts = straight.iter().zip(swapped);
    let same = contexts
        .flat_map(|(a, b)| a.contexts().into_iter().zip(b.contexts()))
        .filter(|(a, _)| a.margin(norm).abs() >= TIE)
        .filter(|(a, b)| a.success(norm) == b.success(norm))
        .count();
    if same > 0 {
        problems.push(format!(
            "{how}, {same} contexts are a success, or a failure, both ways round"
        ));
    }
    problems
}

/// C15. An edit may depend on both answers of its request (KE reads both). But once it is made,
/// what it says of one answer must not depend on what the other is, and what it does to the
/// distribution in front of an answer must not depend on the answer that is scored there: a scope
/// or a retrieval that reads the candidate gives itself away by that.
pub(super) fn leak(trial: &Trial) -> Result<Verdict> {
    let mut problems: Vec<String> = beside_another(trial)?.into_iter().collect();
    let fronts = fronts(trial)?;
    problems.extend(knowing(&fronts));
    Ok(Verdict::of(
        problems,
        format!(
            "the score of an answer does not depend on the other one, nor the distribution in front of it on either ({} records)",
            fronts.len()
        ),
    ))
}

/// `y_less` beside another `y_more`.
fn beside_another(trial: &Trial) -> Result<Option<String>> {
    let other = |record: &Record| Record {
        y_more: format!("{0} {0}", record.y_more),
        ..record.clone()
    };
    let chunk = trial
        .world
        .chunk(trial.world.eval.iter().map(other).collect())?;
    let (own, others) = (trial.chunk.after(&trial.edits)?, chunk.after(&trial.edits)?);
    let base = trial.chunk.before().iter().zip(chunk.before());
    let mut worst = 0.0_f64;
    for ((before, base), (a, b)) in base.zip(own.iter().zip(&others)) {
        for (at, (a, b)) in a.contexts().into_iter().zip(b.contexts()).enumerate() {
            // Where the longer answer moves the boundary of the prompt, the question is another.
            let (x, y) = (before.contexts()[at].y_less, base.contexts()[at].y_less);
            if relative(x.sum, y.sum) <= INVARIANT {
                worst = worst.max(relative(a.y_less.sum, b.y_less.sum));
            }
        }
    }
    Ok((worst > INVARIANT).then(|| {
        format!("beside another y_more the log-likelihood of y_less is off by {worst:.1e}")
    }))
}

/// The edited prompt itself as a locality item, answered by one token of the one answer and by one
/// of the other: divergence from the base model at the position in front, for every record whose
/// answers begin with different tokens.
fn fronts(trial: &Trial) -> Result<Vec<[f64; 2]>> {
    let mut found = Vec::new();
    for (request, edit) in trial.requests.iter().zip(&trial.edits) {
        let record = &request.record;
        let mut templates = trial.world.templates.clone();
        templates.mloc = templates.of(record.task).clone();
        let front = |answer: &str| -> Result<f64> {
            let item = Unrelated {
                image: record.image.clone(),
                question: record.prompt.clone(),
                answer: answer.to_owned(),
            };
            let record = Record {
                m_locality: Some(item),
                ..record.clone()
            };
            let chunk = trial.world.chunk_in(vec![record], &templates)?;
            let scores = chunk.after(std::slice::from_ref(edit))?[0];
            Ok(scores.m_locality.map_or(0.0, |item| item.answer_kl))
        };
        let model = trial.world.model;
        let more = one_token(model, request, &record.y_more);
        let less = one_token(model, request, &record.y_less);
        if let (Some(more), Some(less)) = (more, less)
            && more != less
        {
            found.push([front(more)?, front(less)?]);
        }
    }
    Ok(found)
}

/// The longest beginning of `answer` that is one token behind the prompt of `request`.
fn one_token<'a>(model: &Model, request: &Request, answer: &'a str) -> Option<&'a str> {
    let ends = answer.char_indices().map(|(at, c)| at + c.len_utf8());
    let mut beginnings: Vec<&str> = ends.map(|end| answer[..end].trim_end()).collect();
    beginnings.reverse();
    let seen = request.image_ref();
    beginnings.into_iter().find(|beginning| {
        let question = Question::new(seen, &request.prompt, beginning);
        let rows = model.rows(&[question]);
        rows.is_ok_and(|rows| rows[0].answer().len() == 1)
    })
}

/// What is wrong with divergences in front of two answers.
fn knowing(fronts: &[[f64; 2]]) -> Option<String> {
    let apart = fronts.iter().map(|[more, less]| relative(*more, *less));
    let worst = apart.fold(0.0, f64::max);
    (worst > INVARIANT).then(|| {
        format!(
            "the divergence in front of an answer depends on the answer, by {worst:.1e} nats: the edit knows which one is scored"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use debias_core::{AnswerScore, ContextScore, LocalityScore};

    fn scores(more: f64, less: f64) -> RecordScores {
        let answer = |sum| AnswerScore {
            sum,
            mean: sum,
            tokens: 1,
            correct: 0,
        };
        let context = ContextScore {
            y_more: answer(more),
            y_less: answer(less),
        };
        let item = LocalityScore {
            positions: 4,
            top1_kept: 4,
            top10_rank_kept: 40,
            ranks: 40,
            answer_positions: 1,
            answer_top1_kept: 1,
            answer_correct: Some(1),
            answer_top10_shared: 10,
            answer_ranks: 10,
            kl: 0.5,
            answer_kl: 0.25,
        };
        RecordScores {
            prompt: context,
            rephrase: Some(context),
            image_rephrase: Some(context),
            t_locality: Some(item),
            m_locality: Some(item),
        }
    }

    #[test]
    fn a_scorer_that_favours_one_place_is_found_out() {
        let straight = [scores(-1.0, -2.0)];
        let fair = [scores(-2.0, -1.0)];
        assert!(exchanged("", &straight, &fair, Norm::Mean).is_empty());
        let favours_the_first = [scores(-1.0, -2.0)];
        let found = exchanged("edited", &straight, &favours_the_first, Norm::Mean);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[1].contains("3 contexts are a success, or a failure, both ways round"));
    }

    #[test]
    fn ties_are_no_success_either_way() {
        let tie = [scores(-1.0, -1.0)];
        assert!(exchanged("", &tie, &tie, Norm::Mean).is_empty());
    }

    #[test]
    fn a_scope_that_reads_the_answer_is_found_out() {
        assert_eq!(knowing(&[[0.25, 0.25], [0.5, 0.5 + 1e-7]]), None);
        let found = knowing(&[[0.25, 0.25], [0.5, 0.125]]).expect("it knows");
        assert!(found.contains("by 3.8e-1 nats"), "{found}");
    }
}
