//! The numbers that answers are made of: log-likelihoods, and distances from a reference model.
//!
//! The shapes are those of the record lines in a run folder. All sums are `f64`.

use serde::{Deserialize, Serialize};

/// Which normalisation decides whether one answer is preferred to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// Log-likelihood divided by the number of answer tokens (headline).
    #[default]
    Mean,
    /// Summed log-likelihood.
    Sum,
}

/// Log-likelihood of one answer under teacher forcing, in nats.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerScore {
    /// Σ log p(token).
    pub sum: f64,
    /// `sum / tokens`.
    pub mean: f64,
    /// Number of answer tokens.
    pub tokens: usize,
    /// Answer tokens that are the model's arg-max at their position.
    pub correct: usize,
}

impl AnswerScore {
    /// The log-likelihood under `norm`.
    pub fn value(&self, norm: Norm) -> f64 {
        match norm {
            Norm::Mean => self.mean,
            Norm::Sum => self.sum,
        }
    }
}

/// Both answers of a record in one context.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContextScore {
    /// The stereotyped answer.
    pub y_more: AnswerScore,
    /// The unbiased answer.
    pub y_less: AnswerScore,
}

impl ContextScore {
    /// `s(y_less) - s(y_more)`: positive when the unbiased answer is preferred.
    pub fn margin(&self, norm: Norm) -> f64 {
        self.y_less.value(norm) - self.y_more.value(norm)
    }

    /// Equation 5–7 of the debias-editing paper: strictly more likely; a tie is a failure.
    pub fn success(&self, norm: Norm) -> bool {
        self.margin(norm) > 0.0
    }

    /// The same scores with the two answers exchanged.
    #[must_use]
    pub fn swapped(self) -> Self {
        Self {
            y_more: self.y_less,
            y_less: self.y_more,
        }
    }
}

/// How far the distributions on an unrelated item moved from the never-edited model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocalityScore {
    /// Compared positions: the whole teacher-forced sequence, image prefix included.
    pub positions: usize,
    /// Positions whose top-1 id is unchanged.
    pub top1_kept: usize,
    /// Ranks 1–10 whose id is unchanged, summed over positions (of `ranks`).
    pub top10_rank_kept: usize,
    /// Number of ranks compared: 10 per position, fewer for tiny vocabularies.
    pub ranks: usize,
    /// Compared positions that predict an answer token.
    pub answer_positions: usize,
    /// Answer positions whose top-1 id is unchanged.
    pub answer_top1_kept: usize,
    /// Answer tokens that are the edited model's first choice, of `answer_positions`; absent in
    /// records written before it was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_correct: Option<usize>,
    /// Ids common to both top-10 sets, summed over answer positions (of `answer_ranks`).
    pub answer_top10_shared: usize,
    /// Number of ids compared at answer positions.
    pub answer_ranks: usize,
    /// Mean KL(base ‖ edited) over all positions, in nats.
    pub kl: f64,
    /// Mean KL(base ‖ edited) over answer positions, in nats.
    pub answer_kl: f64,
}
