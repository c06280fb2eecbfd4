//! Matrix products.
//!
//! The usual scheme ([Goto and van de Geijn, 2008](https://doi.org/10.1145/1356052.1356053)): the right operand is
//! packed into panels as wide as the accumulators of one tile. A tile of the product stays in registers for one block
//! of the inner dimension. The left operand is read in place if its rows are contiguous, and packed if its columns are.
//! Bands of rows are computed on all cores, and `finish` post-processes each row while it is in cache.

use std::{cell::Cell, ops::Range};

use pulp::{Simd, WithSimd};

use super::{
    bf16::{self, PackedPairs},
    factor::Factor,
    matrix::Matrix,
    packed::{Packed, PanelLayout, tile_of, tile_size},
    parallel::{self, Buffer, Shared},
    simd_level::SimdLevel,
    store::Store,
};

/// Elements of the product per task: they fit the L2 cache.
const BAND_SIZE: usize = 1 << 17;

/// Minimum and maximum rows per task.
const BAND_ROWS: (usize, usize) = (48, 120);

/// Rows per task of a symmetric product: whole tiles, few enough to waste little work beyond the diagonal.
const LOWER_BAND_ROWS: usize = 24;

/// Elements of the right operand packed at a time, but at least one block of the inner dimension.
const PACKED_SIZE: usize = 1 << 20;

/// `a · b` as a new row-major matrix. `finish` receives bands of rows with their indices, while they are in cache.
pub(crate) fn product<'b>(
    level: SimdLevel,
    a: Matrix<'_>,
    b: impl Into<Factor<'b>>,
    finish: impl Fn(Range<usize>, &mut [f32]) + Sync,
) -> Vec<f32> {
    let b = b.into();
    let mut c = Buffer::new(a.rows * b.cols());
    let finish = |band: &Band, values: &mut [f32]| finish(band.rows.clone(), values);
    into_buffer(level, a, b, &even_bands(level, a.rows, b.cols()), &mut c, finish);
    // SAFETY: the bands cover all rows.
    unsafe { c.finish() }
}

/// As [`product`], for operands whose product is symmetric. The lower triangle is computed, and copied to the upper
/// one. `finish` receives each row with its index, up to some column after the diagonal.
pub(crate) fn symmetric_product(
    level: SimdLevel,
    a: Matrix<'_>,
    b: Matrix<'_>,
    finish: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    assert_eq!(a.rows, b.cols, "a symmetric matrix must be square");
    let n = a.rows;
    let bands = lower_bands(level, n);
    let mut lower = Buffer::new(bands.iter().map(Band::size).sum());
    into_buffer(level, a, b.into(), &bands, &mut lower, |band, values| {
        for (row, values) in band.rows.clone().zip(values.chunks_exact_mut(band.n_cols)) {
            finish(row, values);
        }
    });
    // SAFETY: the bands cover the buffer.
    let lower = unsafe { lower.finish() };
    let mut c = Buffer::new(n * n);
    let shared = c.shared();
    let row_of =
        |band: &Band, row: usize| &lower[band.start + (row - band.rows.start) * band.n_cols..][..band.n_cols];
    parallel::each(bands.len(), |idx| {
        let band = &bands[idx];
        // SAFETY: bands do not overlap.
        let out = unsafe { shared.zeroed(band.rows.start * n..band.rows.end * n) };
        for (row, out) in band.rows.clone().zip(out.chunks_exact_mut(n)) {
            out[..band.n_cols].copy_from_slice(row_of(band, row));
        }
        for other in &bands[idx + 1..] {
            for col in other.rows.clone().filter(|&col| col >= band.n_cols) {
                let column = &row_of(other, col)[band.rows.clone()];
                for (value, out) in column.iter().zip(out[col..].iter_mut().step_by(n)) {
                    *out = *value;
                }
            }
        }
    });
    // SAFETY: the bands cover all rows.
    unsafe { c.finish() }
}

/// Writes the bands of a product to a buffer that they cover, each at its `start`.
fn into_buffer(
    level: SimdLevel,
    a: Matrix<'_>,
    b: Factor<'_>,
    bands: &[Band],
    c: &mut Buffer,
    finish: impl Fn(&Band, &mut [f32]) + Sync,
) {
    let shared = c.shared();
    let open = |band: &Band, is_first| {
        let range = band.start..band.start + band.size();
        // SAFETY: bands do not overlap, and the first pass over a band is before all others.
        unsafe {
            if is_first {
                (shared.zeroed(range), Store::Overwrite)
            } else {
                (shared.written(range), Store::Add)
            }
        }
    };
    in_bands(level, a, b, bands, open, finish);
}

/// Adds `a · b` to the row-major `c`.
pub(crate) fn add_product<'b>(level: SimdLevel, a: Matrix<'_>, b: impl Into<Factor<'b>>, c: &mut [f32]) {
    let b = b.into();
    let n_cols = b.cols();
    assert_eq!(c.len(), a.rows * n_cols, "the output must be {} x {n_cols}", a.rows);
    let shared = Shared::new(c);
    // SAFETY: bands do not overlap.
    let open = |band: &Band, _| unsafe { (shared.part(band.start..band.start + band.size()), Store::Add) };
    in_bands(level, a, b, &even_bands(level, a.rows, n_cols), open, |_, _| {});
}

thread_local! {
    /// A thread's buffers for packed right operands.
    static RIGHT: Cell<(Packed, PackedPairs)> = Cell::default();
}

/// The part of a product that one task computes: some rows, up to column `n_cols`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Band {
    rows: Range<usize>,
    n_cols: usize,
    /// Elements of all earlier bands.
    start: usize,
}

impl Band {
    fn size(&self) -> usize {
        self.rows.len() * self.n_cols
    }
}

/// Packs as many rows of the right operand at a time as stay in cache, and multiplies bands of the left operand's rows
/// by them on all cores. `open` returns the output of a band and how to write it, given whether this is the first pass
/// over the band. `close` receives the complete band.
fn in_bands<'c>(
    level: SimdLevel,
    a: Matrix<'_>,
    b: Factor<'_>,
    bands: &[Band],
    open: impl Fn(&Band, bool) -> (&'c mut [f32], Store) + Sync,
    close: impl Fn(&Band, &mut [f32]) + Sync,
) {
    let n_inner = b.rows();
    assert_eq!(a.cols, n_inner, "inner dimensions differ: {} and {}", a.cols, n_inner);
    let block = match level.pairs() {
        None => PanelLayout::new(level, n_inner, b.cols()).block,
        Some(_) => bf16::block_len(n_inner),
    };
    let n_packed = (PACKED_SIZE / (b.cols() * block).max(1)).max(1) * block;
    let (mut right, mut right_pairs) = RIGHT.take();
    for start in (0..n_inner.max(1)).step_by(n_packed) {
        let inner = start..(start + n_packed).min(n_inner);
        match level.pairs() {
            None => right.pack_part(level, b, inner.clone()),
            Some(_) => right_pairs.pack_part(level, b, inner.clone()),
        }
        parallel::each(bands.len(), |idx| {
            let band = &bands[idx];
            let left = a.row_range(band.rows.clone()).col_range(inner.clone());
            let (values, store) = open(band, start == 0);
            match level.pairs() {
                None => multiply(level, left, &right, values, band.n_cols, store),
                Some(pairs) => bf16::multiply(level, pairs, left, &right_pairs, values, store),
            }
            if inner.end == n_inner {
                close(band, values);
            }
        });
    }
    RIGHT.set((right, right_pairs));
}

/// Bands that cover all rows and columns.
fn even_bands(level: SimdLevel, n_rows: usize, n_cols: usize) -> Vec<Band> {
    let height = if level.pairs().is_some() { bf16::HEIGHT } else { tile_size(level).0 };
    let rows = (BAND_SIZE / n_cols.max(1)).clamp(BAND_ROWS.0, BAND_ROWS.1);
    let n_tiles = n_rows.div_ceil(height);
    // The same number of bands for each core, with about the same number of tiles.
    let n_bands = n_rows.div_ceil(rows).next_multiple_of(rayon::current_num_threads()).min(n_tiles);
    let start = |band: usize| (band * n_tiles / n_bands * height).min(n_rows);
    let band = |idx| Band { rows: start(idx)..start(idx + 1), n_cols, start: start(idx) * n_cols };
    (0..n_bands).map(band).collect()
}

/// Bands that cover a square matrix up to its diagonal.
fn lower_bands(level: SimdLevel, n: usize) -> Vec<Band> {
    assert!(level.pairs().is_none(), "a symmetric product in bf16 is not supported");
    let width = tile_size(level).1;
    let mut start = 0;
    let band = |first: usize| {
        let rows = first..(first + LOWER_BAND_ROWS).min(n);
        let band = Band { n_cols: rows.end.next_multiple_of(width).min(n), rows, start };
        start += band.size();
        band
    };
    (0..n).step_by(LOWER_BAND_ROWS).map(band).collect()
}

/// Computes `a · b` on this core and writes it to `c`, row-major, using the first `a.cols` rows and `n_cols` columns of
/// `b`.
pub(crate) fn multiply(
    level: SimdLevel,
    a: Matrix<'_>,
    b: &Packed,
    c: &mut [f32],
    n_cols: usize,
    store: Store,
) {
    assert_eq!(c.len(), a.rows * n_cols, "the output must be {} x {n_cols}", a.rows);
    multiply_columns(level, a, b, c, n_cols, n_cols, store);
}

/// As [`multiply`], with rows of the output that start `stride` elements apart.
pub(crate) fn multiply_columns(
    level: SimdLevel,
    a: Matrix<'_>,
    b: &Packed,
    c: &mut [f32],
    n_cols: usize,
    stride: usize,
    store: Store,
) {
    assert!(
        a.cols <= b.layout().n_inner,
        "the left operand has {} columns, the right one only {} rows",
        a.cols,
        b.layout().n_inner
    );
    assert!(n_cols <= b.layout().n_cols, "{n_cols} columns requested of {}", b.layout().n_cols);
    assert!(b.layout().is_for(level), "the right operand is packed for another SIMD level");
    let end = a.rows.checked_sub(1).map_or(0, |last| last * stride + n_cols);
    assert!(n_cols <= stride && end <= c.len(), "the output must be {} x {n_cols}", a.rows);
    assert!(a.row_stride == 1 || a.col_stride == 1, "no axis of the left operand is contiguous");
    level.run(Multiply { a, b, c, n_cols, stride, store });
}

struct Multiply<'a> {
    a: Matrix<'a>,
    b: &'a Packed,
    c: &'a mut [f32],
    n_cols: usize,
    stride: usize,
    store: Store,
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match const { tile_of::<S>() } {
            (12, 2) => self.blocks::<S, 12, 2>(simd),
            (6, 2) => self.blocks::<S, 6, 2>(simd),
            (6, 4) => self.blocks::<S, 6, 4>(simd),
            _ => self.blocks::<S, 4, 4>(simd),
        }
    }
}

thread_local! {
    /// A task's packed part of the left operand.
    static LEFT: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

impl Multiply<'_> {
    #[inline(always)]
    fn blocks<S: Simd, const ROWS: usize, const VECTORS: usize>(self, simd: S) {
        let Self { a, b, c, n_cols, stride, store } = self;
        // Taken rather than borrowed: a closure would not be inlined, and only inlined code is vectorised.
        let mut packed = LEFT.take();
        for (block, start) in (0..a.cols).step_by(b.layout().block).enumerate() {
            let inner = start..(start + b.layout().block).min(a.cols);
            let store = if block == 0 { store } else { Store::Add };
            if a.col_stride == 1 {
                let left = |row: usize, _: usize| {
                    let start = row * a.row_stride + inner.start;
                    Left { data: &a.data[start..], row_stride: a.row_stride, col_stride: 1 }
                };
                panels::<S, ROWS, VECTORS>(
                    simd,
                    a.rows,
                    inner.len(),
                    left,
                    b,
                    block,
                    c,
                    [n_cols, stride],
                    store,
                );
            } else {
                pack_left::<ROWS>(a, inner.clone(), &mut packed);
                let left = |row: usize, n_rows: usize| Left {
                    data: &packed[row * inner.len()..],
                    row_stride: 1,
                    col_stride: n_rows,
                };
                panels::<S, ROWS, VECTORS>(
                    simd,
                    a.rows,
                    inner.len(),
                    left,
                    b,
                    block,
                    c,
                    [n_cols, stride],
                    store,
                );
            }
        }
        LEFT.set(packed);
        if a.cols == 0 && store == Store::Overwrite {
            for row in 0..a.rows {
                c[row * stride..][..n_cols].fill(0.0);
            }
        }
    }
}

/// Packs the columns `inner` of a left operand with contiguous columns: groups of `HEIGHT` rows, each column by column.
#[inline(always)]
fn pack_left<const HEIGHT: usize>(a: Matrix<'_>, inner: Range<usize>, packed: &mut Vec<f32>) {
    packed.resize(a.rows * inner.len(), 0.0);
    let n_whole = a.rows - a.rows % HEIGHT;
    for row in (0..n_whole).step_by(HEIGHT) {
        let out = packed[row * inner.len()..][..HEIGHT * inner.len()].as_chunks_mut::<HEIGHT>().0;
        for (col, out) in inner.clone().zip(out) {
            let column = a.data[col * a.col_stride + row..].first_chunk::<HEIGHT>();
            *out = *column.expect("the rows are in the matrix");
        }
    }
    let rest = a.rows - n_whole;
    if rest > 0 {
        let out = packed[n_whole * inner.len()..].chunks_exact_mut(rest);
        for (col, out) in inner.zip(out) {
            for (out, value) in out.iter_mut().zip(&a.data[col * a.col_stride + n_whole..]) {
                *out = *value;
            }
        }
    }
}

/// Some rows of a left operand: element (r, p) is at `r · row_stride + p · col_stride`.
#[derive(Clone, Copy)]
struct Left<'a> {
    data: &'a [f32],
    row_stride: usize,
    col_stride: usize,
}

/// Computes all tiles of one block of the inner dimension.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "one loop nest, split where the left operand's layout differs")]
fn panels<'a, S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    n_rows: usize,
    n_inner: usize,
    left: impl Fn(usize, usize) -> Left<'a>,
    b: &Packed,
    block: usize,
    c: &mut [f32],
    [n_cols, stride]: [usize; 2],
    store: Store,
) {
    let width = VECTORS * S::F32_LANES;
    for (idx, col) in (0..n_cols).step_by(width).enumerate() {
        let (panel, _) = S::as_simd_f32s(b.panel(block, idx, n_inner));
        let n_cols = width.min(n_cols - col);
        let mut row = 0;
        while row + ROWS <= n_rows {
            let acc = tile::<S, ROWS, VECTORS>(simd, left(row, ROWS), panel);
            store_tile(simd, &acc, &mut c[row * stride + col..], stride, n_cols, store);
            row += ROWS;
        }
        // The remaining rows, in tiles of 4, 2 and 1.
        while row < n_rows {
            let (rest, base) = (n_rows - row, row - row % ROWS);
            let left = left(base, n_rows - base);
            let left = Left { data: &left.data[(row % ROWS) * left.row_stride..], ..left };
            if rest >= 4 {
                let acc = tile::<S, 4, VECTORS>(simd, left, panel);
                store_tile(simd, &acc, &mut c[row * stride + col..], stride, n_cols, store);
                row += 4;
            } else if rest >= 2 {
                let acc = tile::<S, 2, VECTORS>(simd, left, panel);
                store_tile(simd, &acc, &mut c[row * stride + col..], stride, n_cols, store);
                row += 2;
            } else {
                let acc = tile::<S, 1, VECTORS>(simd, left, panel);
                store_tile(simd, &acc, &mut c[row * stride + col..], stride, n_cols, store);
                row += 1;
            }
        }
    }
}

/// Computes one tile: the product of some rows and one panel.
#[inline(always)]
fn tile<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    left: Left<'_>,
    panel: &[S::f32s],
) -> [[S::f32s; VECTORS]; ROWS] {
    let n_inner = panel.len() / VECTORS;
    assert!(n_inner == 0 || (ROWS - 1) * left.row_stride + (n_inner - 1) * left.col_stride < left.data.len());
    let mut acc = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    for (p, right) in panel.chunks_exact(VECTORS).enumerate() {
        for (r, acc) in acc.iter_mut().enumerate() {
            // SAFETY: r < ROWS and p < n_inner, and the largest such index was checked above.
            let x = unsafe { *left.data.get_unchecked(r * left.row_stride + p * left.col_stride) };
            let x = simd.splat_f32s(x);
            for (acc, right) in acc.iter_mut().zip(right) {
                *acc = simd.mul_add_e_f32s(x, *right, *acc);
            }
        }
    }
    acc
}

/// Writes the first `n_cols` columns of a tile to rows `stride` apart.
#[inline(always)]
fn store_tile<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    acc: &[[S::f32s; VECTORS]; ROWS],
    c: &mut [f32],
    stride: usize,
    n_cols: usize,
    store: Store,
) {
    for (r, acc) in acc.iter().enumerate() {
        let row = &mut c[r * stride..][..n_cols];
        if n_cols == VECTORS * S::F32_LANES {
            let (out, _) = S::as_mut_simd_f32s(row);
            for (acc, out) in acc.iter().zip(out) {
                *out = match store {
                    Store::Overwrite => *acc,
                    Store::Add => simd.add_f32s(*acc, *out),
                };
            }
            continue;
        }
        for (acc, out) in acc.iter().zip(row.chunks_mut(S::F32_LANES)) {
            let value = match store {
                Store::Overwrite => *acc,
                Store::Add => simd.add_f32s(*acc, simd.partial_load_f32s(out)),
            };
            simd.partial_store_f32s(out, value);
        }
    }
}
