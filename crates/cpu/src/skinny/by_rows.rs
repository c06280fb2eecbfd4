//! Products with weights whose rows are contiguous: sums of scaled rows.
//!
//! The inner dimension is split into pieces. The rows of a piece are added in order, then the sums of the pieces.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::{
    matrix::Matrix,
    parallel::{self, Shared, SharedBuffer},
    prefetch::prefetch,
    simd_level::SimdLevel,
};

/// Maximum number of pieces.
const MAX_PIECES: usize = 16;

/// Minimum rows of the weight per piece.
const MIN_PIECE: usize = 128;

/// Maximum size of a product for which the sums of all pieces are kept, so that each core reads the weight
/// sequentially.
const MAX_SUMS: usize = 1 << 15;

/// A task's columns are a multiple of this.
const UNIT: usize = 64;

/// Elements of the product summed at a time: they fit the L2 cache.
const STRIP_SIZE: usize = 1 << 15;

/// Rows of the weight that are added while a sum stays in its register.
const STEPS: usize = 16;

/// Computes `a · b` as the columns of `c` from `first` on. Rows of `c` have `width` elements.
pub(super) fn multiply(
    level: SimdLevel,
    a: Matrix<'_>,
    b: Matrix<'_>,
    c: SharedBuffer<'_>,
    first: usize,
    width: usize,
) {
    if a.rows == 0 || b.cols == 0 {
        return;
    }
    // SAFETY: no two calls have the same row and columns.
    let out = |row: usize, cols: &Range<usize>| unsafe {
        c.zeroed(row * width + first + cols.start..row * width + first + cols.end)
    };
    let piece = a.cols.div_ceil(MAX_PIECES).max(MIN_PIECE).next_multiple_of(STEPS);
    let n_pieces = a.cols.div_ceil(piece);
    let inner = |idx: usize| idx * piece..((idx + 1) * piece).min(a.cols);
    let size = a.rows * b.cols;
    if size <= MAX_SUMS {
        let mut sums = vec![0.0; n_pieces * size];
        let shared = Shared::new(&mut sums);
        parallel::each(n_pieces, |idx| {
            // SAFETY: each piece has its own sums.
            let sums = unsafe { shared.part(idx * size..(idx + 1) * size) };
            level.run(AddRows { a: a.col_range(inner(idx)), b: b.row_range(inner(idx)), sums });
        });
        for row in 0..a.rows {
            let out = out(row, &(0..b.cols));
            for sums in sums.chunks_exact(size) {
                add(level, out, &sums[row * b.cols..(row + 1) * b.cols]);
            }
        }
        return;
    }
    let strip = (STRIP_SIZE / a.rows).next_multiple_of(UNIT);
    parallel::pieces(b.cols, UNIT, a.cols, |cols| {
        for start in cols.clone().step_by(strip) {
            let cols = start..(start + strip).min(cols.end);
            let b = b.col_range(cols.clone());
            let mut out: Vec<_> = (0..a.rows).map(|row| out(row, &cols)).collect();
            let mut sums = vec![0.0; a.rows * cols.len()];
            for idx in 0..n_pieces {
                sums.fill(0.0);
                let (a, b) = (a.col_range(inner(idx)), b.row_range(inner(idx)));
                level.run(AddRows { a, b, sums: &mut sums });
                for (out, sums) in out.iter_mut().zip(sums.chunks_exact(cols.len())) {
                    add(level, out, sums);
                }
            }
        }
    });
}

fn add(level: SimdLevel, values: &mut [f32], other: &[f32]) {
    level.vectorize(
        #[inline(always)]
        || {
            for (value, other) in values.iter_mut().zip(other) {
                *value += other;
            }
        },
    );
}

/// Adds `a · b` to the row-major `sums`, as rows of `b` scaled by elements of `a`.
struct AddRows<'a> {
    a: Matrix<'a>,
    b: Matrix<'a>,
    sums: &'a mut [f32],
}

impl WithSimd for AddRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        match const { tile_of::<S>() } {
            (6, 4) => self.steps::<S, 6, 4>(simd),
            _ => self.steps::<S, 6, 2>(simd),
        }
    }
}

/// Rows per tile, and vectors per row.
const fn tile_of<S: Simd>() -> (usize, usize) {
    match (S::F32_LANES, S::REGISTER_COUNT) {
        (16, _) | (_, 32) => (6, 4),
        _ => (6, 2),
    }
}

impl AddRows<'_> {
    #[inline(always)]
    fn steps<S: Simd, const HEIGHT: usize, const VECTORS: usize>(&mut self, simd: S) {
        let whole = self.a.cols - self.a.cols % STEPS;
        for start in (0..whole).step_by(STEPS) {
            self.rows::<S, HEIGHT, VECTORS, STEPS>(simd, start);
        }
        for start in whole..self.a.cols {
            self.rows::<S, HEIGHT, VECTORS, 1>(simd, start);
        }
    }

    /// Adds `N` rows of the weight to all sums.
    #[inline(always)]
    fn rows<S: Simd, const HEIGHT: usize, const VECTORS: usize, const N: usize>(
        &mut self,
        simd: S,
        start: usize,
    ) {
        let mut row = 0;
        while row < self.a.rows {
            let rest = self.a.rows - row;
            row += if rest >= HEIGHT {
                self.tiles::<S, HEIGHT, VECTORS, N>(simd, row, start)
            } else if rest >= 4 {
                self.tiles::<S, 4, VECTORS, N>(simd, row, start)
            } else if rest >= 2 {
                self.tiles::<S, 2, VECTORS, N>(simd, row, start)
            } else {
                self.tiles::<S, 1, VECTORS, N>(simd, row, start)
            };
        }
    }

    /// Adds `N` rows of the weight to `HEIGHT` rows of sums.
    #[inline(always)]
    fn tiles<S: Simd, const HEIGHT: usize, const VECTORS: usize, const N: usize>(
        &mut self,
        simd: S,
        row: usize,
        start: usize,
    ) -> usize {
        let n_cols = self.b.cols;
        let mut factors = [[0.0; N]; HEIGHT];
        for (idx, factors) in factors.iter_mut().enumerate() {
            factors.copy_from_slice(&self.a.row(row + idx)[start..start + N]);
        }
        let mut w = [[].as_slice(); N];
        for (idx, w) in w.iter_mut().enumerate() {
            *w = &self.b.data[(start + idx) * self.b.row_stride..][..n_cols];
        }
        let sums = &mut self.sums[row * n_cols..(row + HEIGHT) * n_cols];
        // The first rows prefetch the next rows of the weight. A single row is faster without prefetching.
        let ahead = if row == 0 && HEIGHT > 1 { N * self.b.row_stride } else { 0 };
        let wide = n_cols - n_cols % (VECTORS * S::F32_LANES);
        let whole = n_cols - n_cols % S::F32_LANES;
        for col in (0..wide).step_by(VECTORS * S::F32_LANES) {
            tile::<S, HEIGHT, VECTORS, N>(simd, &factors, w, sums, n_cols, col, ahead);
        }
        for col in (wide..whole).step_by(S::F32_LANES) {
            tile::<S, HEIGHT, 1, N>(simd, &factors, w, sums, n_cols, col, ahead);
        }
        if whole < n_cols {
            for (factors, sums) in factors.iter().zip(sums.chunks_exact_mut(n_cols)) {
                let mut sum = simd.partial_load_f32s(&sums[whole..]);
                for (factor, w) in factors.iter().zip(w) {
                    let w = simd.partial_load_f32s(&w[whole..]);
                    sum = simd.mul_add_e_f32s(simd.splat_f32s(*factor), w, sum);
                }
                simd.partial_store_f32s(&mut sums[whole..], sum);
            }
        }
        HEIGHT
    }
}

/// Adds `N` scaled rows of the weight to `HEIGHT` rows of sums, in the columns from `col` on. Prefetches the elements
/// of the weight that are `ahead` positions further, unless `ahead` is 0.
#[inline(always)]
fn tile<S: Simd, const HEIGHT: usize, const VECTORS: usize, const N: usize>(
    simd: S,
    factors: &[[f32; N]; HEIGHT],
    w: [&[f32]; N],
    sums: &mut [f32],
    stride: usize,
    col: usize,
    ahead: usize,
) {
    let width = VECTORS * S::F32_LANES;
    let mut acc = [[simd.splat_f32s(0.0); VECTORS]; HEIGHT];
    for (acc, sums) in acc.iter_mut().zip(sums.chunks_exact(stride)) {
        acc.copy_from_slice(S::as_simd_f32s(&sums[col..col + width]).0);
    }
    for (p, w) in w.into_iter().enumerate() {
        let vectors = S::as_simd_f32s(&w[col..col + width]).0;
        if ahead > 0 {
            for v in 0..VECTORS {
                prefetch(w, col + v * S::F32_LANES + ahead);
            }
        }
        for (acc, factors) in acc.iter_mut().zip(factors) {
            let factor = simd.splat_f32s(factors[p]);
            for (acc, w) in acc.iter_mut().zip(vectors) {
                *acc = simd.mul_add_e_f32s(factor, *w, *acc);
            }
        }
    }
    for (acc, sums) in acc.iter().zip(sums.chunks_exact_mut(stride)) {
        S::as_mut_simd_f32s(&mut sums[col..col + width]).0.copy_from_slice(acc);
    }
}
