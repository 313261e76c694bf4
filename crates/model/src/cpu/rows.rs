//! Kernels over values and rows: activations, norms, normalisers.

use burn::backend::Flex;
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::math::{erf, exp, sigmoid};
use super::{PIECE, is_here, values};
use crate::host;
use crate::layers::Activation;

/// `activation(x)`, or x itself where it cannot be done here.
pub(crate) fn apply(activation: Activation, x: Tensor<3>) -> Result<Tensor<3>, Tensor<3>> {
    if !is_here(&x) {
        return Err(x);
    }
    let Some(mut values) = values(x.clone()) else {
        return Err(x);
    };
    // The last handle of an intermediate value is overwritten, anything else is copied.
    drop(x);
    let pieces = values.storage_mut::<f32>().par_chunks_mut(PIECE);
    match activation {
        // Not max(): it would turn NaN into 0.
        Activation::Relu => {
            pieces.for_each(|piece| each(piece, |x| if x < 0.0 { 0.0 } else { x }));
        }
        Activation::Gelu => pieces.for_each(|piece| {
            each(piece, |x| {
                0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
            });
        }),
        Activation::GeluTanh => pieces.for_each(|piece| {
            // 0.5 (1 + tanh u) = σ(2 u)
            each(piece, |x| {
                x * sigmoid(2.0 * GELU * (CUBE * x * x).mul_add(x, x))
            });
        }),
        Activation::QuickGelu => pieces.for_each(|piece| each(piece, |x| x * sigmoid(1.702 * x))),
        Activation::Silu => pieces.for_each(|piece| each(piece, |x| x * sigmoid(x))),
    }
    Ok(Tensor::from_primitive::<Flex>(values))
}

/// The tanh form of GELU where gradients flow, as the line that touches it: its slope is a constant to
/// the gradient, so one product and one sum stand for a dozen operations, of which two are powers. x
/// itself where it cannot be done here.
pub(crate) fn gelu_tanh_tangent(x: Tensor<3>) -> Result<Tensor<3>, Tensor<3>> {
    if !x.is_autodiff() || !is_here(&x.clone().inner()) {
        return Err(x);
    }
    let plain = x.clone().inner();
    let (shape, device) = (plain.dims(), plain.device());
    let mut slopes = host::values(plain);
    let mut rests = vec![0.0; slopes.len()];
    let pieces = slopes
        .par_chunks_mut(PIECE)
        .zip(rests.par_chunks_mut(PIECE));
    pieces.for_each(|(slopes, rests)| pulp::Arch::new().dispatch(Tangent { slopes, rests }));
    let [slope, rest] =
        [slopes, rests].map(|values| host::tensor(values, shape, &device).autodiff());
    Ok(x * slope + rest)
}

struct Tangent<'a> {
    /// Takes the places of the values.
    slopes: &'a mut [f32],
    rests: &'a mut [f32],
}

impl pulp::NullaryFnOnce for Tangent<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (x, rest) in self.slopes.iter_mut().zip(self.rests) {
            let at = *x;
            let square = at * at;
            let s = sigmoid(2.0 * GELU * (CUBE * square).mul_add(at, at));
            let inner = 2.0 * GELU * (3.0 * CUBE).mul_add(square, 1.0);
            let slope = s + at * s * (1.0 - s) * inner;
            *rest = at * s - at * slope;
            *x = slope;
        }
    }
}

/// `sqrt(2/π)` of the tanh form of GELU, and what its cube is multiplied by.
const GELU: f32 = 0.797_884_6;
const CUBE: f32 = 0.044_715;

/// Compiled once for every set of vector instructions, with `f` inlined.
#[inline(always)]
fn each(values: &mut [f32], f: impl Fn(f32) -> f32) {
    pulp::Arch::new().dispatch(Each { values, f });
}

struct Each<'a, F> {
    values: &'a mut [f32],
    f: F,
}

impl<F: Fn(f32) -> f32> pulp::NullaryFnOnce for Each<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for value in self.values {
            *value = (self.f)(*value);
        }
    }
}

/// `x / sqrt(mean(x²) + eps) ⊙ w` over the last axis, or x itself where it cannot be done here.
pub(crate) fn rms_norm(x: Tensor<3>, w: &Tensor<1>, eps: f32) -> Result<Tensor<3>, Tensor<3>> {
    if !is_here(&x) || !is_here(w) {
        return Err(x);
    }
    let width = x.dims()[2];
    let (Some(mut rows), Some(weights)) = (values(x.clone()), values(w.clone())) else {
        return Err(x);
    };
    drop(x);
    let w: &[f32] = weights.storage();
    let per_piece = (PIECE / width.max(1)).max(1) * width;
    let pieces = rows.storage_mut::<f32>().par_chunks_mut(per_piece);
    pieces.for_each(|piece| {
        pulp::Arch::new().dispatch(RmsRows { piece, w, eps });
    });
    Ok(Tensor::from_primitive::<Flex>(rows))
}

struct RmsRows<'a> {
    piece: &'a mut [f32],
    w: &'a [f32],
    eps: f32,
}

impl pulp::NullaryFnOnce for RmsRows<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let n = self.w.len();
        for row in self.piece.chunks_exact_mut(n) {
            let mean = lanes(row, |x| x * x) / n as f32;
            let scale = 1.0 / (mean + self.eps).sqrt();
            for (x, w) in row.iter_mut().zip(self.w) {
                *x = *x * scale * w;
            }
        }
    }
}

/// `Σ f(x)` in sixteen partial sums, whatever the width of the vector registers.
#[inline(always)]
fn lanes(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0f32; 16];
    let mut pieces = row.chunks_exact(16);
    for piece in &mut pieces {
        for (sum, x) in sums.iter_mut().zip(piece) {
            *sum += f(*x);
        }
    }
    for (sum, x) in sums.iter_mut().zip(pieces.remainder()) {
        *sum += f(*x);
    }
    sums.iter().sum()
}

/// `log Σ e^x` of one row; partial sums in f32 over short stretches, in f64 over all.
pub(crate) fn log_sum_exp(row: &[f32]) -> f64 {
    pulp::Arch::new().dispatch(LogSumExp(row))
}

/// Turns one row of logits into `weight` times the slope of `-log p` of `target`: `p - 1` there and `p`
/// elsewhere; returns `log p`.
pub(crate) fn softmax_slope(row: &mut [f32], target: usize, weight: f32) -> f64 {
    let norm = log_sum_exp(row);
    let log_p = f64::from(row[target]) - norm;
    let norm = norm as f32;
    each(row, |x| weight * exp(x - norm));
    row[target] -= weight;
    log_p
}

/// Values whose exponentials are summed in f32.
const STRETCH: usize = 512;

struct LogSumExp<'a>(&'a [f32]);

impl pulp::NullaryFnOnce for LogSumExp<'_> {
    type Output = f64;

    #[inline(always)]
    fn call(self) -> f64 {
        let mut peaks = [f32::NEG_INFINITY; 16];
        let mut pieces = self.0.chunks_exact(16);
        for piece in &mut pieces {
            for (peak, x) in peaks.iter_mut().zip(piece) {
                *peak = if *x > *peak { *x } else { *peak };
            }
        }
        let rest = pieces.remainder().iter().copied();
        let peak = peaks
            .into_iter()
            .chain(rest)
            .fold(f32::NEG_INFINITY, f32::max);
        // NaN is larger than nothing: it shows in the sum.
        let mut sum = 0.0f64;
        for stretch in self.0.chunks(STRETCH) {
            sum += f64::from(lanes(stretch, |x| exp(x - peak)));
        }
        f64::from(peak) + sum.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_sum_exp_is_that_of_f64() {
        for n in [1, 15, 16, 17, 5_000] {
            let row: Vec<f32> = (0..n)
                .map(|i| ((i * 37) % 101) as f32 / 7.0 - 5.0)
                .collect();
            let peak = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.iter().map(|x| f64::from(x - peak).exp()).sum();
            let exact = f64::from(peak) + sum.ln();
            assert!((log_sum_exp(&row) - exact).abs() < 1e-6, "{n}");
        }
    }

    #[test]
    fn the_tangent_of_gelu_has_its_values_and_gradients() {
        let device = burn::tensor::Device::flex();
        let points: Vec<f32> = (-80..80).map(|i| i as f32 / 10.0).collect();
        let x: Tensor<3> = host::tensor(points, [2, 8, 10], &device);
        let both = |apply: &dyn Fn(Tensor<3>) -> Tensor<3>| {
            let leaf = x.clone().autodiff().require_grad();
            let y = apply(leaf.clone());
            let mut found = y.clone().square().sum().backward();
            [y.inner(), leaf.grad_remove(&mut found).expect("a gradient")].map(host::values)
        };
        let ours = both(&|x| gelu_tanh_tangent(x).unwrap_or_else(|x| x));
        let burns = both(&burn::tensor::activation::gelu_approximate);
        for (ours, burns) in ours.iter().flatten().zip(burns.iter().flatten()) {
            assert!(
                (ours - burns).abs() < 1e-5 * burns.abs().max(1.0),
                "{ours} for {burns}"
            );
        }
    }

    #[test]
    fn log_sum_exp_shows_what_is_not_finite() {
        assert!(!log_sum_exp(&[0.0, f32::NAN, 1.0]).is_finite());
        assert!(!log_sum_exp(&[0.0, f32::INFINITY]).is_finite());
    }
}
