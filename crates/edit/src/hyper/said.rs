//! Answers as the model gives them: rows, and the logits in front of their tokens.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, activation::log_softmax};
use debias_core::{Record, seed};
use debias_model::{Row, answer_means, host};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::beside;
use super::subject::Subject;
use crate::editor::{Lessons, Request};
use crate::error::Result;

/// How what is said once is held against what is said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Divergence {
    /// `p̄ (ln p̄ - l̄)`: p̄ the mean probability of an answer's tokens, l̄ the mean log-probability of
    /// those of the other: the form of BiasEdit's program.
    Scalar,
    /// KL over the vocabulary, mean over the tokens that both answers have.
    Token,
}

/// Some rows, and the logits in front of the tokens of their answers, `[b, a, vocabulary]`.
pub(crate) struct Said {
    /// The rows.
    pub rows: Vec<Row>,
    /// Their logits.
    pub logits: Tensor<3>,
}

impl Said {
    /// The rows of each of `R` roles, which follow each other in every record.
    pub fn roles<const R: usize>(rows: &[Row], logits: Tensor<3>) -> [Self; R] {
        let [b, a, vocabulary] = logits.dims();
        let logits = logits.reshape([b / R, R, a, vocabulary]);
        std::array::from_fn(|role| Self {
            rows: rows.iter().skip(role).step_by(R).cloned().collect(),
            logits: logits
                .clone()
                .narrow(1, role, 1)
                .reshape([b / R, a, vocabulary]),
        })
    }

    /// How far each row's answer is from that of `other`, `[b]`.
    pub fn divergence(&self, other: &Self, kind: Divergence) -> Tensor<1> {
        match kind {
            Divergence::Scalar => self.scalar(other),
            Divergence::Token => self.whole(other),
        }
    }

    fn scalar(&self, other: &Self) -> Tensor<1> {
        let [p, _] = answer_means(&self.rows, self.logits.clone());
        let [_, log_q] = answer_means(&other.rows, other.logits.clone());
        let p = beside(&p, &log_q);
        p.clone() * (p.clamp_min(f32::MIN_POSITIVE).log() - log_q)
    }

    fn whole(&self, other: &Self) -> Tensor<1> {
        let [b, mut a, _] = self.logits.dims();
        a = a.min(other.logits.dims()[1]);
        let pairs = self.rows.iter().zip(&other.rows);
        let shared = pairs.map(|(own, other)| own.answer().len().min(other.answer().len()));
        let weight = |n: usize, i: usize| if i < n { 1.0 / n as f32 } else { 0.0 };
        let weights = shared.flat_map(|n| (0..a).map(move |i| weight(n, i)));
        let device = self.logits.device().inner();
        let weights: Tensor<2> = host::tensor(weights.collect(), [b, a], &device);
        let log = |said: &Self| log_softmax(said.logits.clone().narrow(1, 0, a), 2);
        let (log_p, log_q) = (log(self), log(other));
        let log_p = beside(&log_p, &log_q);
        let each = (log_p.clone().exp() * (log_p - log_q)).sum_dim(2);
        let each = each.reshape([b, a]);
        (each.clone() * beside(&weights, &each))
            .sum_dim(1)
            .reshape([b])
    }
}

/// An answer for each record of the lessons that means nothing after its prompt.
#[derive(Default)]
pub(crate) struct Meaningless {
    /// By record; absent where nothing can be had.
    answers: BTreeMap<String, String>,
    /// How many of these are answers of other records.
    borrowed: usize,
}

impl Meaningless {
    /// The answer to a record's unrelated item, or, shuffled, the answer of another record.
    pub fn of(lessons: &Lessons, seed: u64) -> Self {
        let records = lessons.train.records().iter().chain(lessons.val.records());
        let records: Vec<&Record> = records.collect();
        let mut found = Self::default();
        for record in &records {
            let items = [&record.m_locality, &record.t_locality];
            let named = items.into_iter().flatten().next();
            let answer = match named {
                Some(item) => Some(item.answer.clone()),
                None => borrowed(record, &records, seed),
            };
            if let Some(answer) = answer {
                let known = found.answers.insert(record.id.clone(), answer);
                found.borrowed += usize::from(named.is_none() && known.is_none());
            }
        }
        found
    }

    /// The answer for the record of `request`.
    ///
    /// # Errors
    /// [`Error::Elsewhere`](crate::Error::Elsewhere) where nothing can be had.
    pub fn answer(&self, subject: &Subject, request: &Request) -> Result<&str> {
        let why = "has no unrelated item, and no other record lends it a meaningless answer";
        let answer = self.answers.get(&request.record.id);
        let answer = answer.ok_or_else(|| subject.refused(request, why))?;
        Ok(answer)
    }

    /// What a reader must know where answers are borrowed.
    pub fn remark(&self, editor: &str) -> Option<String> {
        let Self { answers, borrowed } = self;
        let all = answers.len();
        (*borrowed > 0).then(|| {
            format!("{editor}: the meaningless answer of {borrowed} of {all} records is that of another record, because they have no unrelated item")
        })
    }
}

/// The target of another record, drawn among those that are no answer of `record`.
fn borrowed(record: &Record, records: &[&Record], seed: u64) -> Option<String> {
    let own = [&record.y_more, &record.y_less];
    let others = records.iter().map(|other| &other.y_less);
    let others: Vec<&String> = others.filter(|answer| !own.contains(answer)).collect();
    let mut stream = seed::stream(seed, &["meaningless", &record.id]);
    match others.len() {
        0 => None,
        n => Some(others[stream.random_range(0..n as u64) as usize].clone()),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use debias_model::Row;

    use super::*;

    fn row(answer: &[u32]) -> Row {
        Row {
            ids: [&[0], answer].concat(),
            image: None,
            answer_start: 1,
        }
    }

    /// Two words: the logits make the first as likely as each of `odds` to 1.
    fn said(answer: &[u32], odds: &[f32]) -> Said {
        let logits = odds.iter().flat_map(|odds| [odds.ln(), 0.0]).collect();
        Said {
            rows: vec![row(answer)],
            logits: host::tensor(logits, [1, odds.len(), 2], &Device::flex()),
        }
    }

    fn close(found: Tensor<1>, expected: f32) {
        let found = host::values(found)[0];
        assert!(
            (found - expected).abs() < 1e-6,
            "{found} against {expected}"
        );
    }

    #[test]
    fn the_scalar_form_takes_means_over_tokens() {
        // p of the first answer's tokens: 3/4 and 1/2; of the second's: 1/4.
        let (one, other) = (said(&[0, 1], &[3.0, 1.0]), said(&[1], &[3.0]));
        let p: f32 = 0.625;
        close(one.scalar(&other), p * (p.ln() - 0.25_f32.ln()));
        let log_p = (0.75_f32.ln() + 0.5_f32.ln()) / 2.0;
        close(other.scalar(&one), 0.25 * (0.25_f32.ln() - log_p));
    }

    #[test]
    fn the_whole_form_compares_the_tokens_that_both_answers_have() {
        let (one, other) = (
            said(&[0, 1, 0], &[1.0, 3.0, 9.0]),
            said(&[1, 1], &[1.0, 1.0]),
        );
        // Equal at the first token; 3/4 against 1/2 at the second; the third has no partner.
        let second = 0.75 * 1.5_f32.ln() + 0.25 * 0.5_f32.ln();
        close(one.whole(&other), second / 2.0);
    }

    #[test]
    fn roles_follow_each_other() {
        let rows = [row(&[1]), row(&[2]), row(&[3]), row(&[4])];
        let logits = host::tensor(
            (0..8).map(|i| i as f32).collect(),
            [4, 1, 2],
            &Device::flex(),
        );
        let [first, second] = Said::roles(&rows, logits);
        assert_eq!(first.rows, [row(&[1]), row(&[3])]);
        assert_eq!(host::values(first.logits), [0.0, 1.0, 4.0, 5.0]);
        assert_eq!(host::values(second.logits), [2.0, 3.0, 6.0, 7.0]);
    }
}
