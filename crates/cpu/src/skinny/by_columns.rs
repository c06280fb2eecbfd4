//! Products with weights whose columns are contiguous: each element is a dot product.

use pulp::{Simd, WithSimd};

use crate::{
    matrix::Matrix,
    parallel::{self, SharedBuffer},
    prefetch::prefetch,
    simd_level::SimdLevel,
};

/// A task's columns are a multiple of this, one cache line of the product.
const UNIT: usize = 16;

/// Columns per tile.
const COLS: usize = 4;

/// Columns multiplied by the rows of a tile before the next rows.
const GROUP: usize = 8;

/// Maximum block of the inner dimension whose sums stay in registers: the rows of a tile and a few columns fit the L1
/// cache.
const BLOCK: usize = 1024;

/// Computes `a · b` for each block `(start, b)`, as the columns of `c` from `start` on. Rows of `c` have `width`
/// elements.
pub(super) fn multiply(
    level: SimdLevel,
    a: Matrix<'_>,
    blocks: &[(usize, Matrix<'_>)],
    c: SharedBuffer<'_>,
    width: usize,
) {
    let n_cols = blocks.iter().map(|(_, b)| b.cols).sum();
    parallel::pieces(n_cols, UNIT, a.cols, |cols| {
        let mut before = 0;
        for (start, b) in blocks {
            // The block's columns inside the piece.
            let part = cols.start.clamp(before, before + b.cols) - before
                ..cols.end.clamp(before, before + b.cols) - before;
            before += b.cols;
            if part.is_empty() {
                continue;
            }
            let range = |row: usize| row * width + start + part.start..row * width + start + part.end;
            // SAFETY: blocks do not overlap, nor do pieces.
            let c = (0..a.rows).map(|row| unsafe { c.zeroed(range(row)) }).collect();
            level.run(Multiply { a, b: b.col_range(part), c });
        }
    });
}

/// Adds `a · b` to the rows of `c`.
struct Multiply<'a> {
    a: Matrix<'a>,
    b: Matrix<'a>,
    c: Vec<&'a mut [f32]>,
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let n_inner = self.a.cols;
        let n_blocks = n_inner.div_ceil(BLOCK).max(1);
        let block = n_inner.div_ceil(n_blocks).next_multiple_of(S::F32_LANES).max(1);
        for start in (0..n_inner).step_by(block) {
            let inner = (start, block.min(n_inner - start));
            for first in (0..self.b.cols).step_by(GROUP) {
                let cols = (first, (first + GROUP).min(self.b.cols));
                match const { height_of::<S>() } {
                    6 => self.rows::<S, 6>(simd, inner, cols),
                    _ => self.rows::<S, 3>(simd, inner, cols),
                }
            }
        }
    }
}

/// Rows per tile: as many accumulators as leave registers for one row.
const fn height_of<S: Simd>() -> usize {
    match (S::F32_LANES, S::REGISTER_COUNT) {
        (16, _) | (_, 32) => 6,
        _ => 3,
    }
}

impl Multiply<'_> {
    /// Computes all rows of a group of columns, in tiles of `HEIGHT` rows and lower tiles for the rest.
    #[inline(always)]
    fn rows<S: Simd, const HEIGHT: usize>(&mut self, simd: S, inner: (usize, usize), cols: (usize, usize)) {
        let mut row = 0;
        while row < self.a.rows {
            let rest = self.a.rows - row;
            row += if rest >= HEIGHT {
                self.tiles::<S, HEIGHT>(simd, row, inner, cols)
            } else if rest >= 4 {
                self.tiles::<S, 4>(simd, row, inner, cols)
            } else if rest >= 2 {
                self.tiles::<S, 2>(simd, row, inner, cols)
            } else {
                self.tiles::<S, 1>(simd, row, inner, cols)
            };
        }
    }

    /// Computes `HEIGHT` rows of a group of columns. Returns `HEIGHT`.
    #[inline(always)]
    fn tiles<S: Simd, const HEIGHT: usize>(
        &mut self,
        simd: S,
        row: usize,
        (start, len): (usize, usize),
        (first, end): (usize, usize),
    ) -> usize {
        let mut x = [[].as_slice(); HEIGHT];
        for (idx, x) in x.iter_mut().enumerate() {
            *x = &self.a.row(row + idx)[start..start + len];
        }
        // The first rows prefetch the next columns.
        let ahead = if row == 0 { GROUP * self.b.col_stride } else { 0 };
        for col in (first..end).step_by(COLS) {
            let mut w = [[].as_slice(); COLS];
            for (idx, w) in w.iter_mut().enumerate() {
                // The last tile may repeat its last column.
                let col = (col + idx).min(end - 1);
                *w = &self.b.data[col * self.b.col_stride + start..][..len];
            }
            let sums = tile(simd, x, w, ahead);
            let n_cols = COLS.min(end - col);
            for (c, sums) in self.c[row..row + HEIGHT].iter_mut().zip(sums) {
                for (c, sum) in c[col..col + n_cols].iter_mut().zip(sums) {
                    *c += sum;
                }
            }
        }
        HEIGHT
    }
}

/// The dot products of rows and columns of the same length, each in one vector of partial sums. Prefetches the elements
/// of the columns that are `ahead` positions further, unless `ahead` is 0.
#[inline(always)]
fn tile<S: Simd, const HEIGHT: usize>(
    simd: S,
    x: [&[f32]; HEIGHT],
    w: [&[f32]; COLS],
    ahead: usize,
) -> [[f32; COLS]; HEIGHT] {
    let len = w[0].len();
    let (mut x_vectors, mut w_vectors) = ([[].as_slice(); HEIGHT], [[].as_slice(); COLS]);
    for (vectors, x) in x_vectors.iter_mut().zip(x) {
        assert_eq!(x.len(), len, "rows and columns differ in length");
        *vectors = S::as_simd_f32s(x).0;
    }
    for (vectors, w) in w_vectors.iter_mut().zip(w) {
        assert_eq!(w.len(), len, "rows and columns differ in length");
        *vectors = S::as_simd_f32s(w).0;
    }
    let n_vectors = len / S::F32_LANES;
    let mut acc = [[simd.splat_f32s(0.0); COLS]; HEIGHT];
    for p in 0..n_vectors {
        let mut columns = [simd.splat_f32s(0.0); COLS];
        for ((column, vectors), w) in columns.iter_mut().zip(w_vectors).zip(w) {
            if ahead > 0 {
                prefetch(w, p * S::F32_LANES + ahead);
            }
            // SAFETY: p < n_vectors, which is the number of vectors in each slice of `len` elements.
            *column = unsafe { *vectors.get_unchecked(p) };
        }
        for (acc, vectors) in acc.iter_mut().zip(x_vectors) {
            // SAFETY: as above.
            let x = unsafe { *vectors.get_unchecked(p) };
            for (acc, column) in acc.iter_mut().zip(columns) {
                *acc = simd.mul_add_e_f32s(x, column, *acc);
            }
        }
    }
    let end = n_vectors * S::F32_LANES;
    if end < len {
        for (acc, x) in acc.iter_mut().zip(x) {
            let x = simd.partial_load_f32s(&x[end..]);
            for (acc, w) in acc.iter_mut().zip(w) {
                *acc = simd.mul_add_e_f32s(x, simd.partial_load_f32s(&w[end..]), *acc);
            }
        }
    }
    let mut sums = [[0.0; COLS]; HEIGHT];
    for (sums, acc) in sums.iter_mut().zip(acc) {
        for (sum, acc) in sums.iter_mut().zip(acc) {
            *sum = simd.reduce_sum_f32s(acc);
        }
    }
    sums
}
