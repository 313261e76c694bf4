//! Number formats.

use burn::tensor::{DType, Tensor};

/// A tensor in the number format `dtype`.
pub(crate) fn as_dtype<const D: usize>(tensor: Tensor<D>, dtype: DType) -> Tensor<D> {
    if tensor.dtype() == dtype {
        tensor
    } else {
        tensor.cast(dtype)
    }
}

/// `dtype`, or f32 where that is narrower.
pub(crate) fn f32_at_least(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}
