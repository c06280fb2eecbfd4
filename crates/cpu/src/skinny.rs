//! Products with a few rows, as in decoding: the weight is read from memory once, however many rows there are.
//!
//! Each number of a product is summed in one order, which depends on the length of the sum and on the orientation
//! of the weight alone. So a row has the same bits whatever rows are beside it, on any number of cores.

mod by_columns;
mod by_rows;

use super::{matrix::Matrix, parallel::Buffer, simd_level::SimdLevel};

/// Rows up to which a row of a product in f32 has the same bits whatever rows are beside it.
pub const INVARIANT_ROWS: usize = 64;

/// Rows up to which these products are used. In bf16 it is where packing the weight pays; these products are in f32 even
/// then.
pub(crate) fn max_rows(level: SimdLevel) -> usize {
    if level.pairs().is_some() { 8 } else { INVARIANT_ROWS }
}

/// `a · [b₀ b₁ ...]`, its rows one after another.
pub(crate) fn product(level: SimdLevel, a: Matrix<'_>, weights: &[Matrix<'_>]) -> Vec<f32> {
    assert!(a.has_rows(), "the rows of the left factor are not contiguous");
    for b in weights {
        assert_eq!(a.cols, b.rows, "the left factor is {} wide, the right {} high", a.cols, b.rows);
    }
    let width = weights.iter().map(Matrix::cols).sum();
    let mut c = Buffer::new(a.rows * width);
    let mut end = 0;
    let blocks = weights.iter().map(|b| {
        end += b.cols;
        (end - b.cols, *b)
    });
    let (rows, columns): (Vec<_>, Vec<_>) = blocks.partition(|(_, b)| b.has_rows());
    let shared = c.shared();
    by_columns::multiply(level, a, &columns, shared, width);
    for (start, b) in rows {
        by_rows::multiply(level, a, b, shared, start, width);
    }
    // SAFETY: the blocks cover all columns of every row.
    unsafe { c.finish() }
}
