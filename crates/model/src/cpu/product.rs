//! Products of f32 activations with weights stored in half the width.
//!
//! Widening a whole matrix would need twice its memory again and pass it through the cache three
//! times. Here a block of it is widened where the product reads it next, on every thread its own.

use burn::backend::Flex;
use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape, Tensor, bf16, f16};
use rayon::prelude::*;

use super::{is_here, values};

/// Widened values per block: 2 MiB, a share of the second-level cache.
const BLOCK: usize = 1 << 19;

/// `x wᵀ` for x `[b, t, k]` in f32 and w `[n, k]` in f16 or bf16, or nothing where it cannot be
/// done here.
pub(crate) fn widening_product(x: &Tensor<3>, w: &Tensor<2>) -> Option<Tensor<3>> {
    if !is_here(x) || w.is_autodiff() || !matches!(w.dtype(), DType::BF16 | DType::F16) {
        return None;
    }
    let [n, k] = w.dims();
    let rows = (BLOCK / k.max(1)).max(1);
    if n <= rows {
        return None;
    }
    let [b, t, _] = x.dims();
    let x = x.clone().reshape([b * t, k]);
    let stored = values(w.clone())?;
    let starts: Vec<usize> = (0..n).step_by(rows).collect();
    let parts: Vec<Tensor<2>> = starts
        .into_par_iter()
        .map(|start| {
            let block = widened(&stored, start * k, rows.min(n - start), k);
            x.clone().matmul(block.transpose())
        })
        .collect();
    Some(Tensor::cat(parts, 1).reshape([b, t, n]))
}

/// Rows of a matrix as f32, `[rows, k]`.
fn widened(stored: &FlexTensor, from: usize, rows: usize, k: usize) -> Tensor<2> {
    let range = from..from + rows * k;
    let wide = match stored.dtype() {
        DType::BF16 => widen(&stored.storage::<bf16>()[range], bf16::to_f32),
        _ => widen(&stored.storage::<f16>()[range], f16::to_f32),
    };
    let tensor = FlexTensor::new(
        Bytes::from_elems(wide),
        Layout::contiguous(Shape::from(vec![rows, k])),
        DType::F32,
    );
    Tensor::from_primitive::<Flex>(tensor)
}

#[inline(always)]
fn widen<E: Copy>(from: &[E], f: impl Fn(E) -> f32) -> Vec<f32> {
    pulp::Arch::new().dispatch(Widen { from, f })
}

struct Widen<'a, E, F> {
    from: &'a [E],
    f: F,
}

impl<E: Copy, F: Fn(E) -> f32> pulp::NullaryFnOnce for Widen<'_, E, F> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn call(self) -> Vec<f32> {
        self.from.iter().map(|value| (self.f)(*value)).collect()
    }
}
