//! The gradient of an embedding.

use std::ops::Range;

use burn::{
    backend::{
        Backend, TensorMetadata, get_device_settings,
        tensor::{FloatTensor, IntTensor},
    },
    prelude::*,
    tensor::{FloatDType, IndexingUpdateOp},
};

use super::primitive::{chunks, narrow, narrow_int};
use crate::dropout::numbers;

/// Tables of up to so many rows take their gradient by a product.
const ROWS_OF_A_PRODUCT: usize = 1 << 13;

/// Numbers of the product's left factor that exist at a time: 256 MiB of them.
const CHUNK: usize = 1 << 26;

/// The sums of those of `values`, `[N, C]`, that have the same of `ids`, `[N]`, each in the row of its id, `[V, C]`.
///
/// A GPU adds up the rows of a selection one after the other, with one thread for each of C channels. A small table is
/// made by a product of what is 1 where a value has the id, and else 0, with the values; a large one by scattering, where
/// each number is added by itself, so that sums of a GPU may differ in their last bit from run to run.
pub(super) fn sum_rows<B: Backend>(
    values: FloatTensor<B>,
    ids: IntTensor<B>,
    n_rows: usize,
) -> FloatTensor<B> {
    let ([n, width], device) = (values.shape().dims(), values.device());
    let zeros = || B::float_zeros(Shape::new([n_rows, width]), &device, FloatDType::F32);
    if n_rows > ROWS_OF_A_PRODUCT {
        let ids = B::int_expand(B::int_reshape(ids, [n, 1].into()), Shape::new([n, width]));
        return B::float_scatter(0, zeros(), ids, values, IndexingUpdateOp::Add);
    }
    let settings = get_device_settings::<B>(&device);
    let numbers = B::int_cast(numbers::<B>(0..n_rows, &device), ids.dtype().into());
    let numbers = B::int_reshape(numbers, [n_rows, 1].into());
    let sum_of = |range: Range<usize>| {
        let ids = narrow_int::<B>(ids.clone(), 0, range.clone());
        let ids = B::int_reshape(ids, [1, range.len()].into());
        let has_id = B::int_equal(numbers.clone(), ids, settings.bool_dtype);
        let has_id = B::bool_into_float(has_id, FloatDType::F32);
        B::float_matmul(has_id, narrow::<B>(values.clone(), 0, range))
    };
    chunks(n, CHUNK / n_rows).map(sum_of).reduce(B::float_add).unwrap_or_else(zeros)
}
