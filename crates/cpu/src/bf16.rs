//! Matrix products with operands rounded to bf16 and sums in f32.
//!
//! The scheme is that of `gemm`, but on pairs: one instruction multiplies two neighbours along the inner dimension and
//! adds both products to one sum. Both operands are packed, because both are rounded.

use std::{cell::Cell, ops::Range};

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m512, __m512bh, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_ps,
    _mm512_storeu_ps,
};

#[cfg(target_arch = "x86_64")]
use super::pairs::Avx512;
use super::{
    factor::Factor,
    matrix::Matrix,
    pairs::Pairs,
    parallel::{self, Shared},
    simd_level::SimdLevel,
    store::Store,
};

/// Sums per vector.
const LANES: usize = 16;

/// Vectors and columns per row of a tile.
const VECTORS: usize = 2;
const WIDTH: usize = VECTORS * LANES;

/// Rows per tile.
pub(crate) const HEIGHT: usize = 12;

/// Maximum block of the inner dimension, in pairs: one panel of it fits the L1 cache.
const INNER_BLOCK: usize = 192;

/// Two bf16 values, the first in the low half.
type Pair = u32;

/// The packed right operand of a product: blocks of the inner dimension, each with panels of `WIDTH` columns. A panel
/// has `WIDTH` pairs for every two inner indices. Padding beyond the last index or column is zero.
#[derive(Default)]
pub(crate) struct PackedPairs {
    n_inner: usize,
    n_cols: usize,
    /// Pairs per block; the last block may be shorter.
    block: usize,
    data: Vec<Pair>,
}

/// Inner indices per block, for an inner dimension of `n_inner`.
pub(crate) fn block_len(n_inner: usize) -> usize {
    let n_pairs = n_inner.div_ceil(2);
    2 * n_pairs.div_ceil(n_pairs.div_ceil(INNER_BLOCK).max(1)).max(1)
}

impl PackedPairs {
    /// Packs some rows of `b` on all cores, reusing the buffer.
    pub(crate) fn pack_part(&mut self, level: SimdLevel, b: Factor<'_>, rows: Range<usize>) {
        let (n_inner, n_cols) = (rows.len(), b.cols());
        (self.n_inner, self.n_cols, self.block) = (n_inner, n_cols, block_len(n_inner) / 2);
        let n_panels = n_cols.div_ceil(WIDTH);
        let size = self.block * WIDTH;
        let n_blocks = n_inner.div_ceil(2 * self.block);
        self.data.resize(n_blocks * n_panels * size, 0);
        let block = self.block;
        let shared = Shared::new(&mut self.data);
        parallel::pieces(n_blocks * n_panels, 1, size, |panels| {
            let mut unpacked = Vec::new();
            for idx in panels {
                // SAFETY: panels do not overlap.
                let out = unsafe { shared.part(idx * size..(idx + 1) * size) };
                let inner = idx / n_panels * 2 * block..((idx / n_panels + 1) * 2 * block).min(n_inner);
                let cols = idx % n_panels * WIDTH..((idx % n_panels + 1) * WIDTH).min(n_cols);
                let b = b.part(rows.start + inner.start..rows.start + inner.end, cols, &mut unpacked);
                level.vectorize(
                    #[inline(always)]
                    || pack::<WIDTH>(b.transposed(), 0..b.cols, 0..b.rows, out),
                );
            }
        });
    }

    fn panel(&self, block: usize, panel: usize, n_pairs: usize) -> &[[Pair; WIDTH]] {
        let start = (block * self.n_cols.div_ceil(WIDTH) + panel) * self.block * WIDTH;
        self.data[start..][..n_pairs * WIDTH].as_chunks().0
    }
}

/// Packs at most `N` rows of a matrix: for every two columns, the pairs of `N` rows, padded with zeros.
#[inline(always)]
fn pack<const N: usize>(a: Matrix<'_>, rows: Range<usize>, cols: Range<usize>, out: &mut [Pair]) {
    let out = out.as_chunks_mut::<N>().0;
    let n_rows = rows.len();
    if n_rows < N || cols.len() % 2 == 1 {
        out.iter_mut().for_each(|pairs| *pairs = [0; N]);
    }
    if a.col_stride == 1 {
        for (idx, row) in rows.enumerate() {
            let (pairs, last) = a.data[row * a.row_stride..][cols.clone()].as_chunks::<2>();
            for (out, &[low, high]) in out.iter_mut().zip(pairs) {
                out[idx] = pair(low, high);
            }
            if let [low] = last {
                out[pairs.len()][idx] = pair(*low, 0.0);
            }
        }
    } else {
        let column = |col: usize| &a.data[col * a.col_stride..][rows.clone()];
        for (out, col) in out.iter_mut().zip(cols.clone().step_by(2)) {
            let low = column(col);
            if col + 1 < cols.end {
                for ((out, low), high) in out.iter_mut().zip(low).zip(column(col + 1)) {
                    *out = pair(*low, *high);
                }
            } else {
                for (out, low) in out.iter_mut().zip(low) {
                    *out = pair(*low, 0.0);
                }
            }
        }
    }
}

#[inline(always)]
fn pair(low: f32, high: f32) -> Pair {
    round(low) | round(high) << 16
}

/// The bits of the nearest bf16, ties to even; NaN stays NaN.
#[inline(always)]
fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if x.is_nan() { bits >> 16 | 0x40 } else { rounded }
}

thread_local! {
    /// A task's packed part of the left operand.
    static LEFT: Cell<Vec<Pair>> = const { Cell::new(Vec::new()) };
}

/// Computes `a · b` on this core and writes it to `c`, row-major.
pub(crate) fn multiply(
    level: SimdLevel,
    pairs: Pairs,
    a: Matrix<'_>,
    b: &PackedPairs,
    c: &mut [f32],
    store: Store,
) {
    assert_eq!(a.cols, b.n_inner, "inner dimensions differ: {} and {}", a.cols, b.n_inner);
    assert_eq!(c.len(), a.rows * b.n_cols, "the output must be {} x {}", a.rows, b.n_cols);
    let mut left = LEFT.take();
    for (block, start) in (0..a.cols).step_by(2 * b.block).enumerate() {
        let inner = start..(start + 2 * b.block).min(a.cols);
        let n_pairs = inner.len().div_ceil(2);
        left.resize(a.rows.div_ceil(HEIGHT) * HEIGHT * n_pairs, 0);
        level.vectorize(
            #[inline(always)]
            || {
                for (tile, out) in left.chunks_exact_mut(HEIGHT * n_pairs).enumerate() {
                    let rows = tile * HEIGHT..((tile + 1) * HEIGHT).min(a.rows);
                    pack::<HEIGHT>(a, rows, inner.clone(), out);
                }
            },
        );
        let part =
            Block { left: &left, n_pairs, b, block, store: if block == 0 { store } else { Store::Add } };
        match pairs {
            // SAFETY: an `Avx512` exists only if the processor has the instructions.
            #[cfg(target_arch = "x86_64")]
            Pairs::Avx512(avx512) => unsafe { avx512.tiles(part, c) },
            #[cfg(test)]
            Pairs::Emulated => tiles(Emulated, part, c),
        }
    }
    LEFT.set(left);
    if a.cols == 0 && store == Store::Overwrite {
        c.fill(0.0);
    }
}

/// One block of the inner dimension.
struct Block<'a> {
    left: &'a [Pair],
    n_pairs: usize,
    b: &'a PackedPairs,
    block: usize,
    store: Store,
}

/// The vector instructions that a tile needs.
trait Vectors: Copy {
    type Pairs: Copy;
    type Sums: Copy;

    fn zeros(self) -> Self::Sums;
    fn splat(self, pair: Pair) -> Self::Pairs;
    fn load(self, pairs: &[Pair; LANES]) -> Self::Pairs;
    /// `sums` plus the products of both halves of each pair.
    fn add_products(self, sums: Self::Sums, x: Self::Pairs, y: Self::Pairs) -> Self::Sums;
    fn store(self, sums: Self::Sums) -> [f32; LANES];
}

/// Computes all tiles of a block.
#[inline(always)]
fn tiles<V: Vectors>(vectors: V, part: Block<'_>, c: &mut [f32]) {
    let Block { left, n_pairs, b, block, store } = part;
    let stride = b.n_cols;
    for (panel, col) in (0..stride).step_by(WIDTH).enumerate() {
        let right = b.panel(block, panel, n_pairs);
        let bands = c.chunks_mut(HEIGHT * stride).zip(left.chunks_exact(HEIGHT * n_pairs));
        for (band, left) in bands {
            let mut sums = [[vectors.zeros(); VECTORS]; HEIGHT];
            for (left, right) in left.as_chunks::<HEIGHT>().0.iter().zip(right) {
                let (halves, _) = right.as_chunks::<LANES>();
                let right: [V::Pairs; VECTORS] = [vectors.load(&halves[0]), vectors.load(&halves[1])];
                for (sums, &left) in sums.iter_mut().zip(left) {
                    let left = vectors.splat(left);
                    for (sums, right) in sums.iter_mut().zip(right) {
                        *sums = vectors.add_products(*sums, left, right);
                    }
                }
            }
            for (row, sums) in band.chunks_exact_mut(stride).zip(sums) {
                let out = row[col..].chunks_mut(LANES).zip(sums);
                for (out, sums) in out {
                    for (out, sum) in out.iter_mut().zip(vectors.store(sums)) {
                        *out = if store == Store::Add { *out + sum } else { sum };
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Avx512 {
    /// # Safety
    ///
    /// The processor has AVX-512 BF16.
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn tiles(self, part: Block<'_>, c: &mut [f32]) {
        tiles(self, part, c);
    }
}

// Each method is inlined into `Avx512::tiles`, where the instructions are enabled.
#[cfg(target_arch = "x86_64")]
impl Vectors for Avx512 {
    type Pairs = __m512bh;
    type Sums = __m512;

    #[inline(always)]
    fn zeros(self) -> __m512 {
        // SAFETY: an `Avx512` exists only if the processor has AVX-512 BF16.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    fn splat(self, pair: Pair) -> __m512bh {
        // SAFETY: as above; both types are 512 bits of any value.
        unsafe { std::mem::transmute(_mm512_set1_epi32(pair.cast_signed())) }
    }

    #[inline(always)]
    fn load(self, pairs: &[Pair; LANES]) -> __m512bh {
        // SAFETY: as above; the array is as long as the vector.
        unsafe { std::mem::transmute(_mm512_loadu_si512(pairs.as_ptr().cast())) }
    }

    #[inline(always)]
    fn add_products(self, sums: __m512, x: __m512bh, y: __m512bh) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_dpbf16_ps(sums, x, y) }
    }

    #[inline(always)]
    fn store(self, sums: __m512) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        // SAFETY: as above; the array is as long as the vector.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sums) };
        out
    }
}

#[cfg(test)]
#[derive(Clone, Copy)]
struct Emulated;

#[cfg(test)]
impl Vectors for Emulated {
    type Pairs = [Pair; LANES];
    type Sums = [f32; LANES];

    fn zeros(self) -> [f32; LANES] {
        [0.0; LANES]
    }

    fn splat(self, pair: Pair) -> [Pair; LANES] {
        [pair; LANES]
    }

    fn load(self, pairs: &[Pair; LANES]) -> [Pair; LANES] {
        *pairs
    }

    fn add_products(self, sums: [f32; LANES], x: [Pair; LANES], y: [Pair; LANES]) -> [f32; LANES] {
        let low = |pair: Pair| f32::from_bits(pair << 16);
        let high = |pair: Pair| f32::from_bits(pair & 0xffff_0000);
        std::array::from_fn(|i| sums[i] + low(x[i]) * low(y[i]) + high(x[i]) * high(y[i]))
    }

    fn store(self, sums: [f32; LANES]) -> [f32; LANES] {
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_nearest_ties_to_even() {
        let rounded = |x: f32| f32::from_bits(round(x) << 16);
        // With eight bits of mantissa, values just above 1 are 2⁻⁷ apart.
        let unit = 1.0 / 128.0;
        assert_eq!(rounded(1.0 + 0.5 * unit), 1.0);
        assert_eq!(rounded(1.0 + 1.5 * unit), 1.0 + 2.0 * unit);
        assert_eq!(rounded(1.0 + 0.51 * unit), 1.0 + unit);
        assert_eq!(rounded(-1.0 - 0.49 * unit), -1.0);
        assert_eq!(rounded(-0.0).to_bits(), (-0.0_f32).to_bits());
        assert_eq!(rounded(f32::INFINITY), f32::INFINITY);
        assert_eq!(rounded(f32::MAX), f32::INFINITY);
        assert!(rounded(f32::NAN).is_nan() && rounded(f32::from_bits(0x7f80_0001)).is_nan());
    }
}
