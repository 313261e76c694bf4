//! What distances between texts cost in training, and the gain that suits them.

use std::ops::Range;

use burn::tensor::Tensor;
use debias_model::host;

/// Gains are looked for between `exp(±200 / 44)`, a factor of 94 to either side.
const GAIN_STEPS: i32 = 200;
/// Below this, two texts out of scope of each other repel with a constant force.
const NEAREST: f64 = 1e-4;
/// Temperature by which hard negatives are weighed (the reference draws them by it).
const TEMPERATURE: f64 = 0.1;

/// Distances of a lesson times the gain that suits them best.
pub(super) fn calibrated(
    distances: Tensor<1>,
    inside: &Range<usize>,
    outside: &Range<usize>,
) -> Tensor<1> {
    let values = host::values(distances.clone());
    let of = |range: &Range<usize>| -> Vec<f64> {
        values[range.clone()]
            .iter()
            .map(|d| f64::from(*d))
            .collect()
    };
    distances.mul_scalar(best_gain(&of(inside), &of(outside)))
}

/// The gain g that makes `mean(g d)` in scope and `mean(-log(1 - exp(-g d)))` out of it least
/// together; 1 where either is unknown.
pub(super) fn best_gain(inside: &[f64], outside: &[f64]) -> f64 {
    if inside.is_empty() || outside.is_empty() {
        return 1.0;
    }
    let mean = |values: &mut dyn Iterator<Item = f64>, n: usize| values.sum::<f64>() / n as f64;
    let loss = |gain: f64| {
        let apart = |d: &f64| -(-(-gain * d.max(NEAREST)).exp()).ln_1p();
        gain * mean(&mut inside.iter().copied(), inside.len())
            + mean(&mut outside.iter().map(apart), outside.len())
    };
    // A convex function of the gain; steps of 2.3 % are finer than what the records tell.
    let gains = (-GAIN_STEPS..=GAIN_STEPS).map(|i| (f64::from(i) / 44.0).exp());
    let best = gains.map(|gain| (loss(gain), gain));
    let best = best.min_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or(1.0, |(_, gain)| gain)
}

/// Mean of `-log(1 - s)` over pairs out of scope; the share `hard` of the weight goes to those that
/// are now the nearest. `-log(1 - s)` bounds the divergence that such a pair can cause in a soft
/// mix.
pub(super) fn repulsion(distances: Tensor<1>, hard: f64) -> Tensor<1> {
    let n = distances.dims()[0] as f64;
    let s = distances.clamp_min(NEAREST).neg().exp();
    let nearness = s.clone().detach().div_scalar(TEMPERATURE).exp();
    let total = nearness.clone().sum();
    let weights = (nearness / total)
        .mul_scalar(hard)
        .add_scalar((1.0 - hard) / n);
    let losses = s.neg().add_scalar(1.0).log().neg();
    (losses * weights).sum()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn the_gain_is_that_of_the_closed_form() {
        // d/dg (g x - ln(1 - e^(-g y))) = 0 at g = ln(1 + y / x) / y.
        let gain = best_gain(&[1.0], &[3.0]);
        assert!((gain - 4.0f64.ln() / 3.0).abs() < 0.012, "{gain}");
        assert_eq!(best_gain(&[], &[3.0]), 1.0);
    }

    #[test]
    fn repulsion_has_the_numbers_worked_by_hand() {
        let losses = |distances: &[f32], hard| {
            let n = distances.len();
            let distances = host::tensor(distances.to_vec(), [n], &Device::flex());
            host::values(repulsion(distances, hard))[0]
        };
        let half = std::f32::consts::LN_2;
        // s = 1/2 for both, -log(1 - s) = ln 2.
        assert!((losses(&[half, half], 0.5) - half).abs() < 1e-5);
        // The mean of ln 2 and 0, and its part when all weight goes by e^(s / 0.1).
        assert!((losses(&[half, 30.0], 0.0) - half / 2.0).abs() < 1e-5);
        let weight = 5.0f32.exp() / (5.0f32.exp() + 1.0);
        assert!((losses(&[half, 30.0], 1.0) - weight * half).abs() < 1e-4);
    }
}
