//! Scaled dot-product attention over heads.

use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Device, Tensor};

use crate::device;

/// Splits `[b, t, heads * d]` into `[b, heads, t, d]`.
pub(crate) fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [b, t, width] = x.dims();
    x.reshape([b, t, heads, width / heads]).swap_dims(1, 2)
}

/// Each key/value head serves `times` consecutive query heads.
pub(crate) fn repeat_heads(x: Tensor<4>, times: usize) -> Tensor<4> {
    if times == 1 {
        return x;
    }
    let [b, heads, t, d] = x.dims();
    x.reshape([b, heads, 1, t * d])
        .expand([b, heads, times, t * d])
        .reshape([b, heads * times, t, d])
}

/// What a query may see.
#[derive(Clone, Debug)]
pub(crate) enum Visible {
    /// Every key.
    All,
    /// Keys at or before its own place.
    Causal,
    /// Keys where the mask `[b, 1, t_q, t_k]` is false.
    Unmasked(Tensor<4, Bool>),
}

impl Visible {
    /// What each of the last `t_q` of `t_k` places may not see, `[b or 1, 1, t_q, t_k]`.
    fn hidden(&self, t_q: usize, t_k: usize, device: &Device) -> Option<Tensor<4, Bool>> {
        match self {
            Self::All => None,
            Self::Causal => {
                let seen =
                    Tensor::<2, Bool>::tril_mask([t_q, t_k], t_k as i64 - t_q as i64, device);
                Some(seen.unsqueeze())
            }
            Self::Unmasked(mask) => Some(mask.clone()),
        }
    }
}

/// `softmax(scale q kᵀ) v` for `[b, heads, t, d]` → `[b, t, heads * d]`; the scale is `1/sqrt(d)`
/// unless given.
pub(crate) fn attend(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    visible: &Visible,
    scale: Option<f64>,
) -> Tensor<3> {
    let [b, heads, t, _] = q.dims();
    let d = v.dims()[3];
    let seen = match q.device().inner() == Device::flex() {
        true => fused([q, k, v], visible, scale),
        // burn's kernels for cards read factors of 16 bits, and masks of all heads alone.
        false => in_steps([q, k, v], visible, scale),
    };
    seen.swap_dims(1, 2).reshape([b, t, heads * d])
}

fn in_steps([q, k, v]: [Tensor<4>; 3], visible: &Visible, scale: Option<f64>) -> Tensor<4> {
    let scale = scale.unwrap_or_else(|| (q.dims()[3] as f64).sqrt().recip());
    let hidden = visible.hidden(q.dims()[2], k.dims()[2], &q.device().inner());
    device::attention(q, k, v, hidden, scale)
}

fn fused([q, k, v]: [Tensor<4>; 3], visible: &Visible, scale: Option<f64>) -> Tensor<4> {
    let options = AttentionModuleOptions {
        scale,
        softcap: None,
        is_causal: matches!(visible, Visible::Causal),
    };
    let mask = match visible {
        Visible::Unmasked(mask) => Some(mask.clone()),
        Visible::All | Visible::Causal => None,
    };
    attention(q, k, v, mask, None, options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host;

    fn tensor(shape: [usize; 4], step: usize) -> Tensor<4> {
        let values = (0..shape.iter().product()).map(|i| ((i * step) % 31) as f32 / 10.0 - 1.5);
        host::tensor(values.collect(), shape, &Device::flex())
    }

    #[test]
    fn steps_give_what_the_fused_kernel_gives() {
        let qkv = [([5, 8], 7), ([9, 8], 11), ([9, 4], 13)];
        let qkv = qkv.map(|([t, d], step)| tensor([2, 3, t, d], step));
        let hidden = tensor([2, 1, 5, 9], 17).greater_elem(0.9);
        for visible in [Visible::All, Visible::Causal, Visible::Unmasked(hidden)] {
            for scale in [None, Some(0.25)] {
                let both =
                    [fused, in_steps].map(|way| host::values(way(qkv.clone(), &visible, scale)));
                let pairs = both[0].iter().zip(&both[1]);
                let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(largest < 1e-6, "{visible:?}, {scale:?}: {largest}");
            }
        }
    }
}
