//! Operations on backend primitives for which only `Tensor` has methods.

use std::ops::Range;

use burn::{
    backend::{
        Backend, TensorMetadata,
        tensor::{FloatTensor, IntTensor},
    },
    prelude::*,
    tensor::{DType, FloatDType, Slice},
};

use crate::Precision;

/// Splits `0..n` into ranges of `n_rows`; the last may be shorter.
pub(super) fn chunks(n: usize, n_rows: usize) -> impl DoubleEndedIterator<Item = Range<usize>> {
    (0..n).step_by(n_rows).map(move |start| start..n.min(start + n_rows))
}

/// The part `range` of dimension `dim`.
pub(super) fn narrow<B: Backend>(x: FloatTensor<B>, dim: usize, range: Range<usize>) -> FloatTensor<B> {
    if range == (0..x.shape()[dim]) {
        return x;
    }
    let slices = within(x.rank(), dim, range);
    B::float_slice(x, &slices)
}

/// As [`narrow`], for integers.
pub(super) fn narrow_int<B: Backend>(x: IntTensor<B>, dim: usize, range: Range<usize>) -> IntTensor<B> {
    if range == (0..x.shape()[dim]) {
        return x;
    }
    let slices = within(x.rank(), dim, range);
    B::int_slice(x, &slices)
}

/// The range in dimension `dim`, and all of the others.
pub(super) fn within(rank: usize, dim: usize, range: Range<usize>) -> Vec<Slice> {
    (0..rank).map(|other| if other == dim { Slice::from(range.clone()) } else { Slice::full() }).collect()
}

pub(super) fn as_f32<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    if x.dtype() == DType::F32 { x } else { B::float_cast(x, FloatDType::F32) }
}

pub(super) fn reshaped<B: Backend, const D: usize>(x: FloatTensor<B>, shape: [usize; D]) -> FloatTensor<B> {
    B::float_reshape(x, Shape::new(shape))
}

/// The type of an operand of a product.
pub(super) fn operand_type(precision: Precision) -> FloatDType {
    match precision {
        Precision::F32 => FloatDType::F32,
        Precision::Bf16 => FloatDType::BF16,
    }
}

/// An operand of a product, cast to the precision.
pub(super) fn operand<B: Backend>(x: FloatTensor<B>, precision: Precision) -> FloatTensor<B> {
    let wanted = operand_type(precision);
    if x.dtype() == wanted.into() { x } else { B::float_cast(x, wanted) }
}
