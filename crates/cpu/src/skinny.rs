//! Products with a few rows, as in decoding: the weight is read from memory once, and that is the time they
//! take.

use super::{
    math::dot,
    matrix::Matrix,
    parallel::{self, Buffer, Shared, WORTH_SHARING},
    simd_level::SimdLevel,
};

/// Rows up to which packing the weight costs more than it gains.
pub(crate) const MAX_ROWS: usize = 8;

/// Pieces of the weight that cores stream at the same time, whatever their number, so that a sum has one order.
const MAX_PIECES: usize = 16;

/// Rows of the weight read side by side.
const UNROLL: usize = 4;

/// `a · b` for an `a` of few rows.
pub(crate) fn product(level: SimdLevel, a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    assert!(a.has_rows(), "the rows of the left factor are not contiguous");
    assert_eq!(a.cols(), b.rows(), "the left factor is {} wide, the right {} high", a.cols(), b.rows());
    match b.contiguous() {
        (b_rows, true) => by_rows(level, a, b_rows, b.cols()),
        (b_cols, false) => by_columns(level, a, b_cols, b.cols()),
    }
}

/// Each number of the product is the product of a row and a column, which is contiguous.
fn by_columns(level: SimdLevel, a: Matrix<'_>, b: &[f32], n_cols: usize) -> Vec<f32> {
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

/// The product is the sum of the weight's rows, each times a number. Each core streams its own rows, and the
/// sums are added up in the end.
fn by_rows(level: SimdLevel, a: Matrix<'_>, b: &[f32], n_cols: usize) -> Vec<f32> {
    let (n_rows, n_inner) = (a.rows(), a.cols());
    let n_pieces = (n_inner * n_cols / WORTH_SHARING).clamp(1, MAX_PIECES);
    let piece = n_inner.div_ceil(n_pieces).next_multiple_of(UNROLL);
    let n_pieces = n_inner.div_ceil(piece);
    let mut sums = vec![0.0; n_pieces * n_rows * n_cols];
    let shared = Shared::new(&mut sums);
    parallel::each(n_pieces, |idx| {
        let inner = idx * piece..((idx + 1) * piece).min(n_inner);
        for row in 0..n_rows {
            let start = (idx * n_rows + row) * n_cols;
            // SAFETY: each piece has its own sums.
            let out = unsafe { shared.part(start..start + n_cols) };
            let factors = &a.row(row)[inner.clone()];
            let b = &b[inner.start * n_cols..inner.end * n_cols];
            level.vectorize(
                #[inline(always)]
                || add_weighted(factors, b, out),
            );
        }
    });
    let rest = sums.split_off(n_rows * n_cols);
    for other in rest.chunks_exact(n_rows * n_cols) {
        for (sum, other) in sums.iter_mut().zip(other) {
            *sum += other;
        }
    }
    sums
}

/// Adds the rows of `b`, as wide as `out`, each times its factor.
#[inline(always)]
fn add_weighted(factors: &[f32], b: &[f32], out: &mut [f32]) {
    let n = out.len();
    let (chunks, rest) = factors.as_chunks::<UNROLL>();
    let (whole, b_rest) = b.split_at(chunks.len() * UNROLL * n);
    for (f, rows) in chunks.iter().zip(whole.chunks_exact(UNROLL * n)) {
        let (b0, rows) = rows.split_at(n);
        let (b1, rows) = rows.split_at(n);
        let (b2, b3) = rows.split_at(n);
        for ((((out, b0), b1), b2), b3) in out.iter_mut().zip(b0).zip(b1).zip(b2).zip(b3) {
            *out += f[0] * b0 + f[1] * b1 + (f[2] * b2 + f[3] * b3);
        }
    }
    for (f, row) in rest.iter().zip(b_rest.chunks_exact(n)) {
        for (out, b) in out.iter_mut().zip(row) {
            *out += f * b;
        }
    }
}
