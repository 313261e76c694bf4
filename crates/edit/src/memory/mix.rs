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
                let text =
                    |row: &Row| row.ids.len() - row.image.map_or(0, |span| span.at + span.len);
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

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use debias_model::{ImageSpan, host};

    use super::*;

    fn logits(probabilities: &[f32]) -> Tensor<2> {
        let logs = probabilities.iter().map(|p| p.ln()).collect();
        host::tensor(logs, [1, probabilities.len()], &Device::flex())
    }

    fn row(ids: &[u32], image: Option<(usize, usize)>) -> Row {
        Row {
            ids: ids.to_vec(),
            image: image.map(|(at, len)| ImageSpan {
                picture: 0,
                at,
                len,
            }),
            answer_start: ids.len() - 1,
        }
    }

    #[test]
    fn a_soft_mix_has_the_numbers_worked_by_hand() {
        let s = host::tensor(vec![0.25], [1, 1], &Device::flex());
        let mixed = Mix::Soft.of(logits(&[0.7, 0.2, 0.1]), logits(&[0.1, 0.1, 0.8]), s);
        // 0.75 · 0.7 + 0.25 · 0.1 and so on.
        for (found, expected) in host::values(mixed).iter().zip([0.55f64, 0.175, 0.275]) {
            let expected = (expected + 1.19e-7).ln();
            assert!((f64::from(*found) - expected).abs() < 1e-5 * expected.abs());
        }
    }

    #[test]
    fn a_hard_mix_is_the_counterfactual_and_only_in_scope() {
        let s = host::tensor(vec![0.6], [1, 1], &Device::flex());
        let other = logits(&[0.1, 0.9]);
        let mixed = Mix::Hard.of(logits(&[0.5, 0.5]), other.clone(), s);
        assert_eq!(host::values(mixed), host::values(other));
        assert!(Mix::Hard.matters(0.51) && !Mix::Hard.matters(0.5));
        assert!(Mix::Soft.matters(2e-6) && !Mix::Soft.matters(1e-6));
    }

    #[test]
    fn rows_without_a_spot_keep_their_bits() {
        let device = Device::flex();
        let base = host::tensor(vec![0.3, -0.7, 1.1, 0.2], [2, 2], &device);
        let other = host::tensor(vec![5.0, -5.0], [1, 2], &device);
        let s = host::tensor(vec![1.0], [1, 1], &device);
        let spot = Spot {
            base: 1,
            other: 0,
            s: 0,
        };
        let mixed = host::values(mixed_at(base.clone(), other, &s, &[spot], Mix::Soft));
        assert_eq!(mixed[..2], host::values(base)[..2]);
        assert!((mixed[2].exp() - 0.999_954_6).abs() < 1e-5);
    }

    #[test]
    fn only_the_common_end_is_aligned() {
        let base = row(&[0, 0, 7, 8, 9], Some((0, 2)));
        let longer = row(&[0, 0, 4, 5, 7, 8, 9], Some((0, 2)));
        assert_eq!(Align::Suffix.of(&base, &longer), (2..5, 4..7));
        assert_eq!(Align::Right.of(&base, &longer), (0..5, 2..7));
        let parted = row(&[4, 5, 6, 8, 9], None);
        assert_eq!(Align::Suffix.of(&base, &parted), (3..5, 3..5));
        // A token that is spelt like the place of a picture is none.
        let zeros = row(&[0, 0, 0, 7, 8, 9], None);
        assert_eq!(Align::Suffix.of(&base, &zeros), (2..5, 3..6));
    }
}
