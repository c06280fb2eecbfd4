//! Indices as tensors.

use burn::prelude::*;

/// Row indices as a constant, `[N]`.
pub(crate) fn index_tensor(indices: impl Iterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let index = |index| i32::try_from(index).expect("a tensor has fewer than 2³¹ rows");
    let indices: Vec<i32> = indices.map(index).collect();
    let n = indices.len();
    Tensor::from_data(TensorData::new(indices, [n]), device)
}
