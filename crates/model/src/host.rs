//! Tensors to and from host memory.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::device;

/// The values of a float tensor, row-major. A device that fails here is a
/// [`Fault`](crate::device::Fault).
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    device::read(tensor)
}

/// The values of an integer tensor, row-major.
pub(crate) fn whole_numbers<const D: usize>(tensor: Tensor<D, Int>) -> Vec<i64> {
    device::read(tensor)
}

/// A float tensor of the given shape.
///
/// # Panics
/// When `values` does not fill `shape`; callers pass lengths they computed themselves.
pub fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// An index tensor.
pub(crate) fn indices(values: Vec<i64>, device: &Device) -> Tensor<1, Int> {
    let n = values.len();
    Tensor::from_data(TensorData::new(values, [n]), device)
}
