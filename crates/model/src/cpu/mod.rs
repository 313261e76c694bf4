//! Kernels for the CPU, where burn's own are scalar and cost as much as the products around them.
//!
//! Each takes its tensor if it lives on the CPU, outside autodiff, in f32, and computes it with
//! vector instructions on all threads; anything else goes back to burn's operation. Every value is
//! computed from its own row alone, so no result depends on the number of threads.

mod math;
mod product;
mod rows;

pub(crate) use product::widening_product;
pub(crate) use rows::{apply, gelu_tanh_tangent, log_sum_exp, rms_norm, softmax_slope};

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Device, Tensor};

/// Values per piece of parallel work.
const PIECE: usize = 1 << 15;

/// Whether `x` can be handed to these kernels.
pub(crate) fn is_here<const D: usize>(x: &Tensor<D>) -> bool {
    !x.is_autodiff() && x.dtype() == DType::F32 && x.device() == Device::flex()
}

/// The values of a tensor for which [`is_here`] holds, or the tensor of the same numbers that
/// burn would give.
fn values<const D: usize>(x: Tensor<D>) -> Option<FlexTensor> {
    let found = x.try_into_primitive::<Flex>().ok()?;
    Some(
        match found.is_contiguous() && found.layout().start_offset() == 0 {
            true => found,
            false => found.to_contiguous(),
        },
    )
}
