//! Products and attention in full f32 where a card would round.
//!
//! NVIDIA's matrix units read f32 factors with 11 significant bits (TF32), and burn's fused attention
//! those of 16-bit floats; which of its kernels runs is decided by timing them. Scores must not depend
//! on that. So a factor is cut into what such a unit reads exactly and a rest that is 2⁻⁸ of it: the
//! products of the parts add up to f32's own precision whatever computes them. Only the products of the
//! backward pass are as exact as the unit.

use burn::tensor::activation::softmax;
use burn::tensor::module::linear;
use burn::tensor::{Bool, DType, Device, Tensor};

use crate::dtype::{as_dtype, f32_at_least};

/// Smaller than any score, and finite: a row without anything to see stays finite too.
const UNSEEN: f32 = -1e30;

/// Whether products of `x` may be rounded.
fn is_rounded<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && x.device().inner() != Device::flex()
}

/// `a b` for matrices behind any batch axes.
pub(crate) fn product<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    if is_rounded(&a) {
        in_parts(a, b)
    } else {
        a.matmul(b)
    }
}

/// `x w + bias` for x `[b, t, k]` and w `[k, n]`, differentiable in one piece where that is exact.
pub(crate) fn affine(x: Tensor<3>, w: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    if !is_rounded(&x) {
        return linear(x, w, bias);
    }
    let [b, t, k] = x.dims();
    let n = w.dims()[1];
    let y = in_parts(x.reshape([b * t, k]), w).reshape([b, t, n]);
    match bias {
        Some(bias) => y + bias.unsqueeze(),
        None => y,
    }
}

fn in_parts<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    let ((a, a_rest), (b, b_rest)) = (parts(a), parts(b));
    // The smallest first. Gradients flow through the rests alone, and meet both parts of the other.
    let rests = a_rest.clone().matmul(b_rest.clone()) + a_rest.matmul(b.clone());
    rests + a.clone().matmul(b_rest) + a.matmul(b)
}

/// The leading 8 bits of every value, a constant to gradients, and the rest.
fn parts<const D: usize>(x: Tensor<D>) -> (Tensor<D>, Tensor<D>) {
    let leading = x.clone().detach().cast(DType::BF16).cast(DType::F32);
    let rest = x - leading.clone();
    (leading, rest)
}

/// `softmax(scale q kᵀ) v` for `[b, heads, t, d]`, scores and their softmax in f32 at least;
/// what `hidden` `[b, 1, t_q, t_k]` marks is not seen.
pub(crate) fn attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    hidden: Option<Tensor<4, Bool>>,
    scale: f64,
) -> Tensor<4> {
    let dtype = v.dtype();
    let scores = as_dtype(product(q, k.swap_dims(2, 3)), f32_at_least(dtype)).mul_scalar(scale);
    let scores = match hidden {
        Some(hidden) => {
            let shape = scores.dims();
            scores.mask_fill(hidden.expand(shape), UNSEEN)
        }
        None => scores,
    };
    product(as_dtype(softmax(scores, 3), dtype), v)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host;

    /// Values of both signs and of many magnitudes.
    fn tensor<const D: usize>(shape: [usize; D], step: u64) -> Tensor<D> {
        let value = |i: u64| {
            let bits = (i + 1)
                .wrapping_mul(step)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (bits >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let n: usize = shape.iter().product();
        host::tensor((0..n as u64).map(value).collect(), shape, &Device::flex())
    }

    fn largest<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f32 {
        let pairs = host::values(a).into_iter().zip(host::values(b));
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    /// As a unit that reads 11 bits would.
    fn rounded<const D: usize>(x: Tensor<D>) -> Tensor<D> {
        let values = host::values(x.clone());
        let cut = |v: &f32| f32::from_bits((v.to_bits() + 0x0fff) & !0x1fff);
        let values = values.iter().map(cut).collect();
        host::tensor(values, x.dims(), &Device::flex())
    }

    #[test]
    fn parts_add_up_and_survive_a_unit_that_rounds() {
        let (a, b) = (tensor([9, 300], 3), tensor([300, 7], 5));
        let exact = a.clone().matmul(b.clone());
        assert!(largest(in_parts(a.clone(), b.clone()), exact.clone()) < 1e-5);
        let ((a1, a2), (b1, b2)) = (parts(a.clone()), parts(b.clone()));
        // Leading parts are read exactly, and of the rests as much as counts.
        assert_eq!(largest(rounded(a1.clone()), a1.clone()), 0.0);
        let by_unit = |a: &Tensor<2>, b: &Tensor<2>| rounded(a.clone()).matmul(rounded(b.clone()));
        let rests = by_unit(&a2, &b2) + by_unit(&a2, &b1) + by_unit(&a1, &b2);
        assert!(largest(rests + by_unit(&a1, &b1), exact.clone()) < 2e-5);
        assert!(largest(by_unit(&a, &b), exact) > 1e-3);
    }

    #[test]
    fn gradients_flow_through_the_parts() {
        let (a, b) = (tensor([4, 40], 3), tensor([40, 6], 5));
        let gradients = |product: fn(Tensor<2>, Tensor<2>) -> Tensor<2>| {
            let [a, b] = [a.clone(), b.clone()].map(|x| x.autodiff().require_grad());
            let mut found = product(a.clone(), b.clone()).square().sum().backward();
            [a, b].map(|x| x.grad_remove(&mut found).expect("a gradient"))
        };
        let [plain, parts] = [gradients(Tensor::matmul), gradients(in_parts)];
        for (plain, parts) in plain.into_iter().zip(parts) {
            assert!(largest(plain, parts) < 1e-4);
        }
    }
}
