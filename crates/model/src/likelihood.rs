//! From logits to log-likelihoods of answers, and to the losses of training.

use burn::tensor::Tensor;
use debias_core::AnswerScore;

use crate::batch::Row;
use crate::error::{Error, Result};
use crate::host;
use crate::logits::answers;

/// Scores each row's answer from the logits of its answer positions, `[b, a, vocabulary]`.
///
/// `log P(y) = Σ_i log_softmax(logits_i)[y_i]`: the first answer token is predicted by the last
/// prompt position, no end token is scored.
///
/// # Errors
/// [`Error::NotFinite`] when any needed logit is NaN or infinite.
pub fn answer_scores(rows: &[Row], logits: Tensor<3>) -> Result<Vec<AnswerScore>> {
    let scores = answer_likelihoods(rows, logits)?;
    Ok(scores.iter().map(AnswerLikelihood::score).collect())
}

/// [`answer_scores`], token by token.
///
/// # Errors
/// As [`answer_scores`].
pub fn answer_likelihoods(rows: &[Row], logits: Tensor<3>) -> Result<Vec<AnswerLikelihood>> {
    let [b, a, vocabulary] = logits.dims();
    let wanted = rows.iter().enumerate();
    let wanted = wanted.flat_map(|(r, row)| r * a..r * a + row.answer().len());
    let index = host::indices(wanted.map(|at| at as i64).collect(), &logits.device());
    let logits = logits.reshape([b * a, vocabulary]).select(0, index);
    let targets: Vec<u32> = rows.iter().flat_map(Row::answer).copied().collect();
    let mut tokens = answers(logits, &targets).into_iter();
    rows.iter()
        .map(|row| {
            let tokens = tokens.by_ref().take(row.answer().len());
            tokens.collect::<AnswerLikelihood>().finite()
        })
        .collect()
}

/// The log-likelihood of an answer, token by token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnswerLikelihood {
    /// `log p` of each token, nats.
    pub tokens: Vec<f64>,
    /// Tokens that are the model's first choice at their position, the lowest id among equals.
    pub correct: usize,
    /// Tokens at the prompt's beginning that were left out for want of positions.
    pub cut: usize,
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

    /// What is kept of it.
    pub fn score(&self) -> AnswerScore {
        AnswerScore {
            sum: self.sum(),
            mean: self.mean(),
            tokens: self.tokens.len(),
            correct: self.correct,
        }
    }

    /// The same, if every token has a probability.
    ///
    /// # Errors
    /// [`Error::NotFinite`].
    pub fn finite(self) -> Result<Self> {
        if self.tokens.iter().all(|log_p| log_p.is_finite()) {
            Ok(self)
        } else {
            Err(Error::NotFinite {
                what: "the log-likelihood of an answer".into(),
            })
        }
    }
}

impl FromIterator<(f64, bool)> for AnswerLikelihood {
    /// From the `log p` of each token, and whether it is the model's first choice.
    fn from_iter<I: IntoIterator<Item = (f64, bool)>>(tokens: I) -> Self {
        let (tokens, first): (Vec<f64>, Vec<bool>) = tokens.into_iter().unzip();
        Self {
            tokens,
            correct: first.into_iter().filter(|first| *first).count(),
            cut: 0,
        }
    }
}

/// Positions whose logits are held at once: 50 MiB at a vocabulary of 50,000.
const LOGIT_ROWS: usize = 256;

/// `log_softmax(logits_i)[targets[i]]` for every i, and whether that target is the likeliest;
/// `logits(from, n)` gives rows `from .. from + n` as `[1, n, vocabulary]`.
pub(crate) fn likelihoods(
    targets: &[u32],
    logits: impl Fn(usize, usize) -> Tensor<3>,
) -> Vec<(f64, bool)> {
    let mut found = Vec::with_capacity(targets.len());
    for (part, targets) in targets.chunks(LOGIT_ROWS).enumerate() {
        let logits = logits(part * LOGIT_ROWS, targets.len()).squeeze_dim(0);
        found.extend(answers(logits, targets));
    }
    found
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
    let b = rows.len();
    let (log_p, weights) = weighted(rows, logits, weight);
    (log_p * weights).neg().sum_dim(1).reshape([b])
}

/// Differentiable means over the tokens of each row's answer: of their probabilities, and of their
/// log-probabilities; `[b]` each.
///
/// `logits` are those of the answer positions, `[b, a, vocabulary]`.
pub fn answer_means(rows: &[Row], logits: Tensor<3>) -> [Tensor<1>; 2] {
    let b = rows.len();
    let (log_p, weights) = weighted(rows, logits, |r, _| 1.0 / rows[r].answer().len() as f32);
    let mean = |of: Tensor<3>| (of * weights.clone()).sum_dim(1).reshape([b]);
    [mean(log_p.clone().exp()), mean(log_p)]
}

/// `log p` of each row's answer tokens `[b, a, 1]`, with what each of them counts; behind the end of a
/// shorter answer stands what counts nothing.
fn weighted(
    rows: &[Row],
    logits: Tensor<3>,
    weight: impl Fn(usize, usize) -> f32,
) -> (Tensor<3>, Tensor<3>) {
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
    (log_softmax(logits).gather(2, ids), weights)
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
