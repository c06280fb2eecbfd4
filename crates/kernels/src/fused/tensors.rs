//! Burn's CPU tensors as numbers, and numbers as tensors.

use burn::{
    backend::flex::{FlexTensor, Layout},
    prelude::*,
    tensor::{Bytes, DType},
};
use cpu::{SimdLevel, adamw, matrix::Matrix};

/// The tensor if its numbers are all of its memory, one after another; else a copy that is so.
pub(super) fn whole(x: FlexTensor) -> FlexTensor {
    let is_whole = x.as_slice::<f32>().is_some_and(|numbers| numbers.len() == x.storage::<f32>().len());
    if is_whole { x } else { x.to_contiguous() }
}

pub(super) fn numbers(x: &FlexTensor) -> &[f32] {
    x.as_slice().expect("the tensor is whole")
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

/// The last axis.
pub(super) fn width(x: &FlexTensor) -> usize {
    let shape = x.layout().shape();
    shape[shape.num_dims() - 1]
}

/// All axes but the last flattened into one.
pub(super) fn rows(x: &FlexTensor) -> Matrix<'_> {
    let (numbers, width) = (numbers(x), width(x));
    Matrix::new(numbers, numbers.len() / width.max(1), width)
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
    let mut x = whole(x);
    if factor != 1.0 {
        adamw::scale(SimdLevel::best(), x.storage_mut(), factor);
    }
    x
}
