//! From logits to log-likelihoods and locality, in `f64` on the host.

use std::ops::Range;

use burn::tensor::Tensor;
use debias_core::{AnswerScore, LocalityScore};
use rayon::prelude::*;

use crate::batch::Row;
use crate::cpu::log_sum_exp;
use crate::error::{Error, Result};
use crate::host;

/// Ranks compared by the reference M-Locality.
const TOP: usize = 10;

/// Scores each row's answer from the logits of its answer positions, `[b, a, vocabulary]`.
///
/// `log P(y) = Σ_i log_softmax(logits_i)[y_i]`: the first answer token is predicted by the last
/// prompt position, no end token is scored.
///
/// # Errors
/// [`Error::NotFinite`] when any needed logit is NaN or infinite.
pub fn answer_scores(rows: &[Row], logits: Tensor<3>) -> Result<Vec<AnswerScore>> {
    let [_, a, vocabulary] = logits.dims();
    let values = host::values(logits);
    rows.iter()
        .enumerate()
        .map(|(r, row)| {
            let mut sum = 0.0;
            let mut correct = 0;
            for (i, id) in row.answer().iter().enumerate() {
                let position = &values[(r * a + i) * vocabulary..][..vocabulary];
                let id = *id as usize;
                sum += f64::from(position[id]) - log_sum_exp(position);
                correct += usize::from(argmax(position) == id);
            }
            let tokens = row.answer().len();
            match sum.is_finite() {
                true => Ok(AnswerScore {
                    sum,
                    mean: sum / tokens as f64,
                    tokens,
                    correct,
                }),
                false => Err(Error::NotFinite {
                    what: "the log-likelihood of an answer".into(),
                }),
            }
        })
        .collect()
}

/// The log-likelihood of an answer, token by token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnswerLikelihood {
    /// `log p` of each token, nats.
    pub tokens: Vec<f64>,
}

impl AnswerLikelihood {
    /// Log-likelihood of the whole answer.
    pub fn sum(&self) -> f64 {
        self.tokens.iter().sum()
    }

    /// Log-likelihood per token.
    pub fn mean(&self) -> f64 {
        self.sum() / self.tokens.len().max(1) as f64
    }
}

impl FromIterator<f64> for AnswerLikelihood {
    fn from_iter<I: IntoIterator<Item = f64>>(tokens: I) -> Self {
        Self {
            tokens: tokens.into_iter().collect(),
        }
    }
}

/// Positions whose logits are held at once: 50 MiB at a vocabulary of 50,000.
const LOGIT_ROWS: usize = 256;

/// `log_softmax(logits_i)[targets[i]]` for every i; `logits(from, n)` gives rows `from .. from + n`
/// as `[1, n, vocabulary]`.
///
/// # Errors
/// [`Error::NotFinite`] when a needed logit is NaN or infinite.
pub(crate) fn likelihoods(
    targets: &[u32],
    logits: impl Fn(usize, usize) -> Tensor<3>,
) -> Result<Vec<f64>> {
    let mut found = Vec::with_capacity(targets.len());
    for (part, targets) in targets.chunks(LOGIT_ROWS).enumerate() {
        let logits = logits(part * LOGIT_ROWS, targets.len());
        let vocabulary = logits.dims()[2];
        let values = host::values(logits);
        let scores: Vec<f64> = targets
            .par_iter()
            .zip(values.par_chunks(vocabulary))
            .map(|(target, row)| f64::from(row[*target as usize]) - log_sum_exp(row))
            .collect();
        found.extend(scores);
    }
    match found.iter().all(|score| score.is_finite()) {
        true => Ok(found),
        false => Err(Error::NotFinite {
            what: "the log-likelihood of an answer".into(),
        }),
    }
}

/// Differentiable negative log-likelihood of each row's answer, summed over its tokens: `[b]`.
///
/// `logits` are those of the answer positions, `[b, a, vocabulary]`.
pub fn answer_nll(rows: &[Row], logits: Tensor<3>) -> Tensor<1> {
    weighted_nll(rows, logits, |_, _| 1.0)
}

/// [`answer_nll`] in which token `i` of the answer of row `r` counts `weight(r, i)`.
pub(crate) fn weighted_nll(
    rows: &[Row],
    logits: Tensor<3>,
    weight: impl Fn(usize, usize) -> f32,
) -> Tensor<1> {
    let [b, a, _] = logits.dims();
    let device = logits.device().inner();
    let mut ids = Vec::with_capacity(b * a);
    let mut weights = Vec::with_capacity(b * a);
    for (r, row) in rows.iter().enumerate() {
        let answer = row.answer();
        for i in 0..a {
            ids.push(answer.get(i).map_or(0, |id| i64::from(*id)));
            weights.push(if i < answer.len() { weight(r, i) } else { 0.0 });
        }
    }
    let ids = host::indices(ids, &device).reshape([b, a, 1]);
    let weights: Tensor<3> = host::tensor(weights, [b, a, 1], &device);
    let weights = match logits.is_autodiff() {
        true => weights.autodiff(),
        false => weights,
    };
    let picked = log_softmax(logits).gather(2, ids);
    (picked * weights).neg().sum_dim(1).reshape([b])
}

/// Differentiable KL(base ‖ edited) of each row, nats, averaged over its positions: `[b]`.
///
/// Both logits are `[b, t, vocabulary]`, those of the base plain; padding does not count.
pub fn divergence_per_row(rows: &[Row], base: Tensor<3>, edited: Tensor<3>) -> Tensor<1> {
    let [b, t, _] = base.dims();
    let mut weights = Vec::with_capacity(b * t);
    for row in rows {
        let length = row.ids.len();
        weights.extend((0..t).map(|at| {
            if at < length {
                1.0 / length as f32
            } else {
                0.0
            }
        }));
    }
    let weights: Tensor<3> = host::tensor(weights, [b, t, 1], &base.device());
    let log_p = log_softmax(base);
    let p = log_p.clone().exp() * weights;
    let (log_p, p) = match edited.is_autodiff() {
        true => (log_p.autodiff(), p.autodiff()),
        false => (log_p, p),
    };
    ((log_p - log_softmax(edited)) * p)
        .sum_dim(2)
        .sum_dim(1)
        .reshape([b])
}

/// `x - max(x) - log Σ exp(x - max(x))`; the maximum is a constant to the gradient.
fn log_softmax(logits: Tensor<3>) -> Tensor<3> {
    let peak = logits.clone().detach().max_dim(2);
    let shifted = logits - peak;
    let norm = shifted.clone().exp().sum_dim(2).log();
    shifted - norm
}

/// Compares the edited model's logits with the never-edited model's on unrelated items,
/// `[b, t, vocabulary]` each.
///
/// # Errors
/// [`Error::NotFinite`] when any compared logit is NaN or infinite.
pub fn locality(rows: &[Row], base: &Tensor<3>, edited: Tensor<3>) -> Result<Vec<LocalityScore>> {
    let [_, t, vocabulary] = base.dims();
    let base = host::values(base.clone());
    let edited = host::values(edited);
    let sequence = t * vocabulary;
    rows.iter()
        .zip(base.chunks(sequence).zip(edited.chunks(sequence)))
        .map(|(row, (base, edited))| {
            let length = row.ids.len() * vocabulary;
            let pairs = base[..length]
                .chunks(vocabulary)
                .zip(edited.chunks(vocabulary));
            let answers = row.answer_positions();
            let ids = &row.ids[row.ids.len() - answers.len()..];
            tally(pairs, &answers, ids)
        })
        .collect()
}

/// Compares positions that belong together, `[n, vocabulary]` each, for edits that change the
/// length of the prompt; `answers` are those among the n that predict answer tokens, which are
/// `ids`.
///
/// # Errors
/// [`Error::NotFinite`] when any compared logit is NaN or infinite.
pub fn locality_of_pairs(
    base: Tensor<2>,
    edited: Tensor<2>,
    answers: Range<usize>,
    ids: &[u32],
) -> Result<LocalityScore> {
    let [_, vocabulary] = base.dims();
    let (base, edited) = (host::values(base), host::values(edited));
    let pairs = base.chunks(vocabulary).zip(edited.chunks(vocabulary));
    tally(pairs, &answers, ids)
}

fn tally<'a>(
    pairs: impl Iterator<Item = (&'a [f32], &'a [f32])>,
    answers: &Range<usize>,
    ids: &[u32],
) -> Result<LocalityScore> {
    let mut score = Tally::default();
    for (position, (base, edited)) in pairs.enumerate() {
        let pair = Compared::new(base, edited)?;
        let is_answer = answers.contains(&position);
        score.add(&pair, is_answer);
        if is_answer && let Some(id) = ids.get(position - answers.start) {
            score.correct += usize::from(pair.first == *id as usize);
        }
    }
    Ok(score.finish())
}

/// One position seen by both models.
struct Compared {
    /// The edited model's first choice.
    first: usize,
    top1: bool,
    ranks_kept: usize,
    shared: usize,
    ranks: usize,
    kl: f64,
}

impl Compared {
    fn new(base: &[f32], edited: &[f32]) -> Result<Self> {
        if base == edited {
            let ranks = TOP.min(base.len());
            return Ok(Self {
                first: argmax(edited),
                top1: true,
                ranks_kept: ranks,
                shared: ranks,
                ranks,
                kl: 0.0,
            });
        }
        let (before, after) = (top(base), top(edited));
        let kl = divergence(base, edited);
        if !kl.is_finite() {
            return Err(Error::NotFinite {
                what: "a logit of a locality item".into(),
            });
        }
        Ok(Self {
            first: after.first().copied().unwrap_or(0),
            top1: before.first() == after.first(),
            ranks_kept: before.iter().zip(&after).filter(|(b, a)| b == a).count(),
            shared: before.iter().filter(|id| after.contains(id)).count(),
            ranks: before.len(),
            kl,
        })
    }
}

#[derive(Default)]
struct Tally {
    all: Sums,
    answers: Sums,
    correct: usize,
}

#[derive(Default)]
struct Sums {
    positions: usize,
    top1: usize,
    ranks_kept: usize,
    shared: usize,
    ranks: usize,
    kl: f64,
}

impl Sums {
    fn add(&mut self, pair: &Compared) {
        self.positions += 1;
        self.top1 += usize::from(pair.top1);
        self.ranks_kept += pair.ranks_kept;
        self.shared += pair.shared;
        self.ranks += pair.ranks;
        self.kl += pair.kl;
    }

    fn mean_kl(&self) -> f64 {
        self.kl / self.positions.max(1) as f64
    }
}

impl Tally {
    fn add(&mut self, pair: &Compared, is_answer: bool) {
        self.all.add(pair);
        if is_answer {
            self.answers.add(pair);
        }
    }

    fn finish(self) -> LocalityScore {
        LocalityScore {
            positions: self.all.positions,
            top1_kept: self.all.top1,
            top10_rank_kept: self.all.ranks_kept,
            ranks: self.all.ranks,
            answer_positions: self.answers.positions,
            answer_top1_kept: self.answers.top1,
            answer_correct: Some(self.correct),
            answer_top10_shared: self.answers.shared,
            answer_ranks: self.answers.ranks,
            kl: self.all.mean_kl(),
            answer_kl: self.answers.mean_kl(),
        }
    }
}

/// Σ p (log p - log q), clamped at 0 against rounding.
fn divergence(base: &[f32], edited: &[f32]) -> f64 {
    let (b, e) = (log_sum_exp(base), log_sum_exp(edited));
    base.iter()
        .zip(edited)
        .map(|(x, y)| {
            let log_p = f64::from(*x) - b;
            log_p.exp() * (log_p - (f64::from(*y) - e))
        })
        .sum::<f64>()
        .max(0.0)
}

/// Lowest id among the greatest.
pub(crate) fn argmax(logits: &[f32]) -> usize {
    top_n(logits, 1).first().copied().unwrap_or(0)
}

fn top(logits: &[f32]) -> Vec<usize> {
    top_n(logits, TOP)
}

/// The `n` greatest, greatest first; ties go to the lower id on both sides.
fn top_n(logits: &[f32], n: usize) -> Vec<usize> {
    let mut best: Vec<usize> = Vec::with_capacity(n + 1);
    for (id, value) in logits.iter().enumerate() {
        let full = best.len() == n;
        if full && best.last().is_some_and(|last| *value <= logits[*last]) {
            continue;
        }
        let place = best.partition_point(|other| logits[*other] >= *value);
        best.insert(place, id);
        best.truncate(n);
    }
    best
}
