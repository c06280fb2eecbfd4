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
use crate::dropout_mask::arange;

/// Maximum rows of a table whose gradient is computed as a product.
const MAX_PRODUCT_ROWS: usize = 1 << 13;

/// Maximum elements of the product's left operand in a chunk: 256 MiB.
const CHUNK: usize = 1 << 26;

/// Sums the rows of `values`, `[N, C]`, by their `ids`, `[N]`, into a table `[V, C]`.
///
/// The gradient of a selection adds rows serially on a GPU, with one thread per channel. For a small table, this
/// multiplies the one-hot ids by `values` instead. For a large table it scatters with atomic additions, so that sums
/// may differ in their last bits from run to run.
pub(super) fn sum_rows<B: Backend>(
    values: FloatTensor<B>,
    ids: IntTensor<B>,
    n_rows: usize,
) -> FloatTensor<B> {
    let ([n, width], device) = (values.shape().dims(), values.device());
    let zeros = || B::float_zeros(Shape::new([n_rows, width]), &device, FloatDType::F32);
    if n_rows > MAX_PRODUCT_ROWS {
        let ids = B::int_expand(B::int_reshape(ids, [n, 1].into()), Shape::new([n, width]));
        return B::float_scatter(0, zeros(), ids, values, IndexingUpdateOp::Add);
    }
    let settings = get_device_settings::<B>(&device);
    let row_ids = B::int_cast(arange::<B>(0..n_rows, &device), ids.dtype().into());
    let row_ids = B::int_reshape(row_ids, [n_rows, 1].into());
    let sum_of = |range: Range<usize>| {
        let ids = narrow_int::<B>(ids.clone(), 0, range.clone());
        let ids = B::int_reshape(ids, [1, range.len()].into());
        let one_hot = B::int_equal(row_ids.clone(), ids, settings.bool_dtype);
        let one_hot = B::bool_into_float(one_hot, FloatDType::F32);
        B::float_matmul(one_hot, narrow::<B>(values.clone(), 0, range))
    };
    chunks(n, CHUNK / n_rows).map(sum_of).reduce(B::float_add).unwrap_or_else(zeros)
}
