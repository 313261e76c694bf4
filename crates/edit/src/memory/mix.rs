//! What is said where a remembered request is in scope: the base model's distribution and the
//! counterfactual's, mixed position by position.

use std::ops::Range;

use burn::tensor::{Int, Tensor};
use debias_model::Row;
use serde::{Deserialize, Serialize};

/// Added to the mixed probability, so that its logarithm stays finite: the epsilon of f32, as in
/// the reference.
const EPSILON: f64 = 1.19e-7;

/// In-scope similarity below which the soft mix leaves the base model's answer alone; what that
/// hides of a probability is at most this much.
const NEGLIGIBLE: f64 = 1e-6;

/// How two distributions become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mix {
    /// `log((1 - s) p_base + s p_counterfactual + ε)`.
    Soft,
    /// The counterfactual where `s > 1/2`, else the base model.
    Hard,
}

impl Mix {
    /// Whether a similarity of `s` changes anything.
    pub fn matters(self, s: f64) -> bool {
        match self {
            Mix::Soft => s > NEGLIGIBLE,
            Mix::Hard => s > 0.5,
        }
    }

    /// Mixes logits `[n, vocabulary]` of the same `n` positions; `s` is `[n, 1]`. Under
    /// [`Mix::Hard`] all positions are taken to be in scope.
    pub fn of(self, base: Tensor<2>, counterfactual: Tensor<2>, s: Tensor<2>) -> Tensor<2> {
        match self {
            Mix::Hard => counterfactual,
            Mix::Soft => {
                let out = s.clone().neg().add_scalar(1.0);
                let mixed = softmax(base) * out + softmax(counterfactual) * s;
                mixed.add_scalar(EPSILON).log()
            }
        }
    }
}

/// `exp(x - max x)` over its sum; the maximum is a constant to the gradient.
fn softmax(logits: Tensor<2>) -> Tensor<2> {
    let peak = logits.clone().detach().max_dim(1);
    let e = (logits - peak).exp();
    let sum = e.clone().sum_dim(1);
    e / sum
}

/// Which positions of two sequences belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Align {
    /// The end that both have token by token; everything in front stays the base model's.
    Suffix,
    /// The last positions of both, as many as the shorter one has, whatever stands there (the
    /// reference).
    Right,
}

impl Align {
    /// Positions of `base`, and those of `other`, that belong together: two ranges of the same
    /// length, both ending with the sequence.
    pub fn of(self, base: &Row, other: &Row) -> (Range<usize>, Range<usize>) {
        let (b, o) = (base.ids.len(), other.ids.len());
        let shared = match self {
            Align::Right => b.min(o),
            Align::Suffix => {
                // What stands at the places of a picture is no token.
                let text = |row: &Row| row.ids.len() - row.image.map_or(0, |span| span.at + span.len);
                let longest = text(base).min(text(other));
                let pairs = base.ids.iter().rev().zip(other.ids.iter().rev());
                pairs.take(longest).take_while(|(x, y)| x == y).count()
            }
        };
        (b - shared..b, o - shared..o)
    }
}

/// One mixed position: where it stands among the rows of the base logits and among those of the
/// counterfactual's, and which similarity is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub base: usize,
    pub other: usize,
    pub s: usize,
}

/// `base` `[n, vocabulary]` with the rows of `spots` mixed by their similarity in `s` `[m, 1]`; all
/// others keep their bits.
pub(crate) fn mixed_at(
    base: Tensor<2>,
    other: Tensor<2>,
    s: &Tensor<2>,
    spots: &[Spot],
    mix: Mix,
) -> Tensor<2> {
    if spots.is_empty() {
        return base;
    }
    let [n, _] = base.dims();
    let mixed = mix.of(
        rows(&base, spots.iter().map(|spot| spot.base)),
        rows(&other, spots.iter().map(|spot| spot.other)),
        rows(s, spots.iter().map(|spot| spot.s)),
    );
    let mut order: Vec<usize> = (0..n).collect();
    for (i, spot) in spots.iter().enumerate() {
        order[spot.base] = n + i;
    }
    rows(&Tensor::cat(vec![base, mixed], 0), order)
}

/// Rows of `x` in the given order.
pub(crate) fn rows(x: &Tensor<2>, order: impl IntoIterator<Item = usize>) -> Tensor<2> {
    let order: Vec<i64> = order.into_iter().map(|i| i as i64).collect();
    let order: Tensor<1, Int> = Tensor::from_data(order.as_slice(), &x.device().inner());
    x.clone().select(0, order)
}
