//! Tensors to and from host memory.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// The values of a float tensor, row-major.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .try_into_vec_as::<f32>()
        .expect("float tensors on a live device convert to f32")
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
