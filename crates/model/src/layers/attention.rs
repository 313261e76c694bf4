//! Scaled dot-product attention over heads.

use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Tensor};

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
        .swap_dims(1, 2)
        .reshape([b, t, heads * d])
}
