//! Products with a few rows, as in decoding: the weight is read from memory once for all rows.
//!
//! The order of each sum depends only on its length and on the weight's orientation. So the bits of a row depend
//! neither on the other rows nor on the number of cores (batch invariance).

mod by_columns;
mod by_rows;

use super::{factor::Factor, matrix::Matrix, parallel::Buffer, quantised, simd_level::SimdLevel};

/// Maximum rows of a product, in f32 or with quantised weights, in which the bits of a row do not depend on the other
/// rows.
pub const INVARIANT_ROWS: usize = 64;

/// Maximum rows of these products, which never round to bf16. With bf16, packing the weight pays off from 9 rows on.
pub(crate) fn max_rows(level: SimdLevel) -> usize {
    if level.pairs().is_some() { 8 } else { INVARIANT_ROWS }
}

/// `a · [b₀ b₁ ...]`, row-major.
///
/// # Panics
///
/// If a quantised factor is not transposed.
pub(crate) fn product(level: SimdLevel, a: Matrix<'_>, weights: &[Factor<'_>]) -> Vec<f32> {
    assert!(a.is_row_major(), "the rows of the left operand are not contiguous");
    let width = weights.iter().map(Factor::cols).sum();
    let mut c = Buffer::new(a.rows * width);
    let (mut rows, mut columns, mut quantised) = (Vec::new(), Vec::new(), Vec::new());
    let mut start = 0;
    for b in weights {
        assert_eq!(a.cols, b.rows(), "inner dimensions differ: {} and {}", a.cols, b.rows());
        match b {
            Factor::Dense(b) if b.is_row_major() => rows.push((start, *b)),
            Factor::Dense(b) => columns.push((start, *b)),
            Factor::Transposed(w) => quantised.push((start, *w)),
            Factor::Quantised(_) => unreachable!("the weight of a layer is transposed"),
        }
        start += b.cols();
    }
    let shared = c.shared();
    by_columns::multiply(level, a, &columns, shared, width);
    quantised::multiply(level, a, &quantised, shared, width);
    for (start, b) in rows {
        by_rows::multiply(level, a, b, shared, start, width);
    }
    // SAFETY: the blocks cover all columns of every row.
    unsafe { c.finish() }
}
