//! Vectors in host memory, as ranks exchange them.

use burn::prelude::*;

/// The elements of `x`.
pub(crate) fn values(x: Tensor<1>) -> Vec<f32> {
    x.into_data().try_into_vec().expect("gradients are f32")
}

/// A tensor with these elements.
pub(crate) fn tensor(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let shape = [values.len()];
    Tensor::from_data(TensorData::new(values, shape), device)
}
