//! Products with a few rows, as in decoding: the weight is read from memory once, and that is the time they
//! take.

use std::ops::Range;

use super::{
    gemm::Matrix,
    level::Level,
    math::dot,
    parallel::{self, Buffer},
};

/// Rows up to which packing the weight costs more than it gains.
pub(crate) const MAX_ROWS: usize = 4;

/// Rows of the weight read side by side.
const UNROLL: usize = 8;

/// Columns of the product that stay in the first-level cache.
const COLS: usize = 1024;

/// `a · b` for an `a` of few rows.
pub(crate) fn product(level: Level, a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    match b.contiguous() {
        (b_rows, true) => by_rows(level, a, b_rows, b.cols()),
        (b_cols, false) => by_columns(level, a, b_cols, b.cols()),
    }
}

/// Each number of the product is the product of a row and a column, which is contiguous.
fn by_columns(level: Level, a: Matrix<'_>, b: &[f32], n_cols: usize) -> Vec<f32> {
    let (n_rows, n_inner) = (a.rows(), a.cols());
    let mut c = Buffer::new(n_rows * n_cols);
    let shared = c.shared();
    parallel::pieces(n_cols, 1, n_inner, |cols| {
        let mut parts = (0..n_rows)
            .map(|row| {
                // SAFETY: pieces do not overlap.
                unsafe { shared.zeroed(row * n_cols + cols.start..row * n_cols + cols.end) }
            })
            .collect::<Vec<_>>();
        level.vectorize(
            #[inline(always)]
            || {
                for (idx, col) in
                    b[cols.start * n_inner..cols.end * n_inner].chunks_exact(n_inner).enumerate()
                {
                    for (row, part) in parts.iter_mut().enumerate() {
                        part[idx] = dot(a.row(row), col);
                    }
                }
            },
        );
    });
    // SAFETY: the pieces cover all columns of every row.
    unsafe { c.finish() }
}

/// The product is the sum of the weight's rows, each times a number.
fn by_rows(level: Level, a: Matrix<'_>, b: &[f32], n_cols: usize) -> Vec<f32> {
    let n_rows = a.rows();
    let mut c = Buffer::new(n_rows * n_cols);
    let shared = c.shared();
    parallel::pieces(n_cols, 64, a.cols(), |cols| {
        for start in cols.clone().step_by(COLS) {
            let cols = start..(start + COLS).min(cols.end);
            for row in 0..n_rows {
                // SAFETY: pieces do not overlap.
                let out = unsafe { shared.zeroed(row * n_cols + cols.start..row * n_cols + cols.end) };
                level.vectorize(
                    #[inline(always)]
                    || weighted_sum(a.row(row), b, n_cols, cols.clone(), out),
                );
            }
        }
    });
    // SAFETY: the pieces cover all columns of every row.
    unsafe { c.finish() }
}

#[inline(always)]
fn weighted_sum(factors: &[f32], b: &[f32], n_cols: usize, cols: Range<usize>, out: &mut [f32]) {
    let n = out.len();
    let row = |idx: usize| &b[idx * n_cols + cols.start..][..n];
    let (chunks, rest) = factors.as_chunks::<UNROLL>();
    for (idx, f) in chunks.iter().enumerate() {
        let rows: [&[f32]; UNROLL] = std::array::from_fn(|r| row(idx * UNROLL + r));
        for (col, out) in out.iter_mut().enumerate() {
            let mut sum = *out;
            for r in 0..UNROLL {
                sum += f[r] * rows[r][col];
            }
            *out = sum;
        }
    }
    for (idx, f) in rest.iter().enumerate() {
        for (out, b) in out.iter_mut().zip(row(chunks.len() * UNROLL + idx)) {
            *out += f * b;
        }
    }
}
