//! Products with a few rows, as in decoding: the weight is read from memory once for all rows.
//!
//! The order of each sum depends only on its length and on the weight's orientation. So the bits of a row depend
//! neither on the other rows nor on the number of cores (batch invariance).

mod by_columns;
mod by_rows;

use super::{matrix::Matrix, parallel::Buffer, simd_level::SimdLevel};

/// Maximum rows of an f32 product in which the bits of a row do not depend on the other rows.
pub const INVARIANT_ROWS: usize = 64;

/// Maximum rows of these products, which are always in f32. With bf16, packing the weight pays off from 9 rows on.
pub(crate) fn max_rows(level: SimdLevel) -> usize {
    if level.pairs().is_some() { 8 } else { INVARIANT_ROWS }
}

/// `a · [b₀ b₁ ...]`, row-major.
pub(crate) fn product(level: SimdLevel, a: Matrix<'_>, weights: &[Matrix<'_>]) -> Vec<f32> {
    assert!(a.is_row_major(), "the rows of the left operand are not contiguous");
    for b in weights {
        assert_eq!(a.cols, b.rows, "inner dimensions differ: {} and {}", a.cols, b.rows);
    }
    let width = weights.iter().map(Matrix::cols).sum();
    let mut c = Buffer::new(a.rows * width);
    let mut end = 0;
    let blocks = weights.iter().map(|b| {
        end += b.cols;
        (end - b.cols, *b)
    });
    let (rows, columns): (Vec<_>, Vec<_>) = blocks.partition(|(_, b)| b.is_row_major());
    let shared = c.shared();
    by_columns::multiply(level, a, &columns, shared, width);
    for (start, b) in rows {
        by_rows::multiply(level, a, b, shared, start, width);
    }
    // SAFETY: the blocks cover all columns of every row.
    unsafe { c.finish() }
}
