//! Conversions between Burn's CPU tensors and slices.

use burn::{
    backend::flex::{FlexTensor, Layout},
    prelude::*,
    tensor::{Bytes, DType},
};
use cpu::{SimdLevel, adamw, matrix::Matrix};

/// The tensor if it is contiguous and fills its storage, else a contiguous copy.
pub(super) fn contiguous(x: FlexTensor) -> FlexTensor {
    let is_contiguous = x.layout().num_elements() == x.storage::<f32>().len() && x.is_contiguous();
    if is_contiguous { x } else { x.to_contiguous() }
}

/// The elements of a tensor that is [`contiguous`].
pub(super) fn values(x: &FlexTensor) -> &[f32] {
    let values = x.storage();
    assert_eq!(values.len(), x.layout().num_elements(), "the tensor is part of another");
    values
}

pub(super) fn indices(x: &FlexTensor) -> Vec<usize> {
    let x = x.to_contiguous();
    let index = |id: i64| usize::try_from(id).expect("an index is not negative");
    match x.dtype() {
        DType::I32 => x.storage::<i32>().iter().map(|&id| index(id.into())).collect(),
        DType::I64 => x.storage::<i64>().iter().map(|&id| index(id)).collect(),
        other => panic!("indices are i32 or i64, not {other:?}"),
    }
}

/// The length of the last axis.
pub(super) fn width(x: &FlexTensor) -> usize {
    let shape = x.layout().shape();
    shape[shape.num_dims() - 1]
}

/// The tensor as a matrix, with all axes but the last flattened.
pub(super) fn rows(x: &FlexTensor) -> Matrix<'_> {
    let (values, width) = (values(x), width(x));
    Matrix::new(values, values.len() / width.max(1), width)
}

pub(super) fn tensor(data: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(data), Layout::contiguous(shape.into()), DType::F32)
}

pub(super) fn tensor_like(data: Vec<f32>, other: &FlexTensor) -> FlexTensor {
    tensor(data, other.layout().shape().clone())
}

pub(super) fn vector(data: Vec<f32>) -> FlexTensor {
    let n = data.len();
    tensor(data, [n])
}

pub(super) fn scalar(x: f32) -> FlexTensor {
    vector(vec![x])
}

pub(super) fn scaled(x: FlexTensor, factor: f32) -> FlexTensor {
    let mut x = contiguous(x);
    if factor != 1.0 {
        adamw::scale(SimdLevel::best(), x.storage_mut(), factor);
    }
    x
}
