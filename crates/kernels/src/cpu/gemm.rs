//! Products of matrices.
//!
//! The usual scheme ([Goto and van de Geijn, 2008](https://doi.org/10.1145/1356052.1356053)): the right factor is
//! packed into panels as wide as the accumulators of one tile, and a tile of the product stays in registers
//! while one block of the inner dimension goes by. The left factor is read where it lies when its rows are
//! contiguous, and packed when its columns are. Bands of rows of the product are made on all cores, and what
//! is to be done with a row afterwards is done while it is in cache.

use std::{cell::Cell, ops::Range};

use pulp::{Simd, WithSimd};

use super::{
    level::Level,
    parallel::{self, Buffer, Shared},
};

/// Longest block of the inner dimension: one panel of it fits the first-level cache.
const INNER_BLOCK: usize = 320;

/// Numbers in the rows of the product that one task makes at a time: they fit the second-level cache.
const BAND_SIZE: usize = 1 << 17;

/// Rows that one task makes at a time, at least and at most.
const BAND_ROWS: (usize, usize) = (48, 120);

/// Numbers of the right factor that are packed at a time, where one block of the inner dimension has not more.
const PACKED_SIZE: usize = 1 << 20;

/// Panels that are packed side by side, so that the rows of a matrix are read in long pieces.
const GROUP: usize = 8;

/// A matrix in memory: rows or columns of it are contiguous.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows one after another.
    pub(crate) fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// Rows that begin `row_stride` numbers apart.
    pub(crate) fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(cols <= row_stride || rows <= 1, "rows of {cols} overlap {row_stride} apart");
        assert!(
            rows == 0 || (rows - 1) * row_stride + cols <= data.len(),
            "{rows} rows of {cols}, {row_stride} apart, are not in {} numbers",
            data.len()
        );
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// One row of a matrix whose rows are contiguous.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &'a [f32] {
        debug_assert_eq!(self.col_stride, 1, "the rows are not contiguous");
        &self.data[row * self.row_stride..][..self.cols]
    }

    /// The numbers of a matrix without gaps, and whether they are its rows one after another; else they are
    /// its columns.
    pub(crate) fn contiguous(&self) -> (&'a [f32], bool) {
        let by_rows = self.col_stride == 1 && self.row_stride == self.cols;
        assert!(by_rows || (self.row_stride == 1 && self.col_stride == self.rows), "the matrix has gaps");
        (self.data, by_rows)
    }

    /// Some of its columns.
    pub(crate) fn col_range(self, range: Range<usize>) -> Self {
        self.transposed().row_range(range).transposed()
    }

    /// Some of its rows.
    pub(crate) fn row_range(self, range: Range<usize>) -> Self {
        let start = (range.start * self.row_stride).min(self.data.len());
        Self { data: &self.data[start..], rows: range.len(), ..self }
    }
}

/// What becomes of the numbers that are where the product goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Onto {
    /// They are overwritten.
    Nothing,
    /// The product is added to them.
    What,
}

/// `a · b`, a new matrix with its rows one after another. `finish` gets each row, with its index, while it is
/// in cache.
pub(crate) fn product(
    level: Level,
    a: Matrix<'_>,
    b: Matrix<'_>,
    finish: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    let n_cols = b.cols;
    let mut c = Buffer::new(a.rows * n_cols);
    let shared = c.shared();
    in_bands(level, a, b, |left, right, rows, part| {
        let range = rows.start * n_cols..rows.end * n_cols;
        // SAFETY: bands do not overlap, and that of the first part comes first.
        let (band, onto) = if part.is_first {
            (unsafe { shared.zeroed(range) }, Onto::Nothing)
        } else {
            (unsafe { shared.written(range) }, Onto::What)
        };
        multiply(level, left, right, band, n_cols, onto);
        if part.is_last {
            for (row, values) in rows.zip(band.chunks_exact_mut(n_cols)) {
                finish(row, values);
            }
        }
    });
    // SAFETY: the bands cover all rows.
    unsafe { c.finish() }
}

/// Adds `a · b` to `c`, whose rows lie one after another.
pub(crate) fn add_product(level: Level, a: Matrix<'_>, b: Matrix<'_>, c: &mut [f32]) {
    assert_eq!(c.len(), a.rows * b.cols, "the product is {} x {}", a.rows, b.cols);
    let n_cols = b.cols;
    let shared = Shared::new(c);
    in_bands(level, a, b, |left, right, rows, _| {
        // SAFETY: bands do not overlap.
        let band = unsafe { shared.part(rows.start * n_cols..rows.end * n_cols) };
        multiply(level, left, right, band, n_cols, Onto::What);
    });
}

/// Which part of the inner dimension.
struct Part {
    is_first: bool,
    is_last: bool,
}

thread_local! {
    /// Where the right factors of a thread's products are packed, one after another.
    static RIGHT: Cell<Packed> = Cell::new(Packed::default());
}

/// Packs as many rows of the right factor at a time as stay in cache, and calls `task` with them, bands of
/// the left factor's rows and their range.
fn in_bands(
    level: Level,
    a: Matrix<'_>,
    b: Matrix<'_>,
    task: impl Fn(Matrix<'_>, &Packed, Range<usize>, Part) + Sync,
) {
    assert_eq!(a.cols, b.rows, "the left factor is {} wide, the right {} high", a.cols, b.rows);
    let block = b.rows.div_ceil(b.rows.div_ceil(INNER_BLOCK).max(1)).max(1);
    let at_once = (PACKED_SIZE / (b.cols * block).max(1)).max(1) * block;
    let mut right = RIGHT.take();
    for start in (0..b.rows.max(1)).step_by(at_once) {
        let inner = start..(start + at_once).min(b.rows);
        right.renew_on_all_cores(level, b.row_range(inner.clone()));
        bands(level, a.rows, b.cols, |rows| {
            let left = a.row_range(rows.clone()).col_range(inner.clone());
            task(left, &right, rows, Part { is_first: start == 0, is_last: inner.end == b.rows });
        });
    }
    RIGHT.set(right);
}

/// Calls `task` with the bands of rows of an `n_rows` x `n_cols` matrix, on all cores.
fn bands(level: Level, n_rows: usize, n_cols: usize, task: impl Fn(Range<usize>) + Sync) {
    let rows = (BAND_SIZE / n_cols.max(1)).clamp(BAND_ROWS.0, BAND_ROWS.1);
    let (height, _) = level.run(TileSize);
    let n_tiles = n_rows.div_ceil(height);
    // As many for one core as for another, and of as many tiles.
    let n_bands = n_rows.div_ceil(rows).next_multiple_of(rayon::current_num_threads()).min(n_tiles);
    let start = |band: usize| (band * n_tiles / n_bands * height).min(n_rows);
    parallel::each(n_bands, |band| task(start(band)..start(band + 1)));
}

/// The right factor of a product, packed for one level.
#[derive(Default)]
pub(crate) struct Packed {
    /// Panels of one block of the inner dimension, then those of the next; in each, `width` numbers for each
    /// inner index. What lies beyond the last column, or
    /// the last row of a short last block, is not used.
    data: Vec<f32>,
    n_inner: usize,
    n_cols: usize,
    width: usize,
    /// Inner indices in a block, but for the last.
    block: usize,
}

impl Packed {
    /// Packs on this core, in the memory of what was packed before.
    pub(crate) fn renew(&mut self, level: Level, b: Matrix<'_>) {
        let mut data = self.resize(level, b);
        self.pack(level, b, 0, &mut data);
        self.data = data;
    }

    /// Packs on all cores, in the memory of what was packed before.
    fn renew_on_all_cores(&mut self, level: Level, b: Matrix<'_>) {
        let mut data = self.resize(level, b);
        let shared = Shared::new(&mut data);
        let unit = self.block * self.width;
        parallel::pieces(shared.len() / unit.max(1), GROUP, unit, |panels| {
            // SAFETY: pieces do not overlap.
            let out = unsafe { shared.part(panels.start * unit..panels.end * unit) };
            self.pack(level, b, panels.start, out);
        });
        self.data = data;
    }

    /// Takes the measures of `b`, and returns memory for it, filled with whatever was there.
    fn resize(&mut self, level: Level, b: Matrix<'_>) -> Vec<f32> {
        let mut data = std::mem::take(&mut self.data);
        let n_blocks = b.rows.div_ceil(INNER_BLOCK);
        let (block, width) = (b.rows.div_ceil(n_blocks.max(1)), level.run(TileSize).1);
        *self = Self { data: Vec::new(), n_inner: b.rows, n_cols: b.cols, width, block };
        data.resize(n_blocks * self.n_panels() * block * width, 0.0);
        data
    }

    fn n_panels(&self) -> usize {
        self.n_cols.div_ceil(self.width)
    }

    /// Packs panels from number `first` on, as many as `out` holds.
    fn pack(&self, level: Level, b: Matrix<'_>, first: usize, out: &mut [f32]) {
        let unit = self.block * self.width;
        let n_panels = self.n_panels();
        let (mut panel, mut out) = (first, out);
        while !out.is_empty() {
            let (block, start) = (panel / n_panels, panel % n_panels);
            let n = (n_panels - start).min(GROUP).min(out.len() / unit);
            let (group, rest) = out.split_at_mut(n * unit);
            let inner = block * self.block..((block + 1) * self.block).min(self.n_inner);
            let cols = start * self.width..((start + n) * self.width).min(self.n_cols);
            if b.col_stride == 1 {
                self.pack_rows(level, b, inner, cols, group);
            } else {
                self.pack_columns(level, b, inner, cols, group);
            }
            (panel, out) = (panel + n, rest);
        }
    }

    /// Packs a few panels from contiguous rows.
    fn pack_rows(&self, level: Level, b: Matrix<'_>, inner: Range<usize>, cols: Range<usize>, out: &mut [f32]) {
        let unit = self.block * self.width;
        level.vectorize(
            #[inline(always)]
            || {
                for (idx, row) in inner.clone().enumerate() {
                    let row = &b.data[row * b.row_stride..][cols.clone()];
                    for (panel, numbers) in row.chunks(self.width).enumerate() {
                        copy(numbers, &mut out[panel * unit + idx * self.width..][..self.width]);
                    }
                }
            },
        );
    }

    /// Packs a few panels from contiguous columns.
    fn pack_columns(&self, level: Level, b: Matrix<'_>, inner: Range<usize>, cols: Range<usize>, out: &mut [f32]) {
        let unit = self.block * self.width;
        for (out, start) in out.chunks_exact_mut(unit).zip(cols.clone().step_by(self.width)) {
            let n = self.width.min(cols.end - start);
            let n_whole = n - n % 8;
            level.vectorize(
                #[inline(always)]
                || {
                    for idx in (0..n_whole).step_by(8) {
                        let source = &b.data[(start + idx) * b.col_stride + inner.start..];
                        transpose_eight(source, b.col_stride, inner.len(), &mut out[idx..], self.width);
                    }
                },
            );
            for idx in n_whole..n {
                let source = &b.data[(start + idx) * b.col_stride..][inner.clone()];
                for (out, value) in out[idx..].iter_mut().step_by(self.width).zip(source) {
                    *out = *value;
                }
            }
        }
    }

    fn panel(&self, block: usize, panel: usize, n_inner: usize) -> &[f32] {
        let unit = self.block * self.width;
        &self.data[(block * self.n_panels() + panel) * unit..][..n_inner * self.width]
    }
}

/// Eight columns of `n` numbers, `stride` apart, as `n` rows of eight, `width` apart.
#[inline(always)]
fn transpose_eight(columns: &[f32], stride: usize, n: usize, rows: &mut [f32], width: usize) {
    let n_whole = n - n % 8;
    for start in (0..n_whole).step_by(8) {
        let block: [[f32; 8]; 8] = std::array::from_fn(|col| {
            *columns[col * stride + start..].first_chunk().expect("a column is n numbers long")
        });
        for p in 0..8 {
            let row: [f32; 8] = std::array::from_fn(|col| block[col][p]);
            rows[(start + p) * width..][..8].copy_from_slice(&row);
        }
    }
    for p in n_whole..n {
        for col in 0..8 {
            rows[p * width + col] = columns[col * stride + p];
        }
    }
}

/// Copies a few numbers to the beginning of `out`, without the call that a copy of unknown length is.
#[inline(always)]
fn copy(numbers: &[f32], out: &mut [f32]) {
    let ((chunks, rest), (out_chunks, out_rest)) = (numbers.as_chunks::<8>(), out.as_chunks_mut::<8>());
    for (out, chunk) in out_chunks.iter_mut().zip(chunks) {
        *out = *chunk;
    }
    let out_rest = match out_chunks.get_mut(chunks.len()) {
        Some(next) => next.as_mut_slice(),
        None => out_rest,
    };
    for (out, number) in out_rest.iter_mut().zip(rest) {
        *out = *number;
    }
}

/// `a · b` on this core, into `c` with its rows one after another: of the right factor as many rows as `a` has
/// columns, and its first `n_cols` columns.
pub(crate) fn multiply(level: Level, a: Matrix<'_>, b: &Packed, c: &mut [f32], n_cols: usize, onto: Onto) {
    assert!(a.cols <= b.n_inner, "the left factor is {} wide, the right {} high", a.cols, b.n_inner);
    assert!(n_cols <= b.n_cols, "{n_cols} columns of {}", b.n_cols);
    assert_eq!(c.len(), a.rows * n_cols, "the product is {} x {n_cols}", a.rows);
    assert!(a.row_stride == 1 || a.col_stride == 1, "no axis of the left factor is contiguous");
    level.run(Multiply { a, b, c, n_cols, onto });
}

/// Rows and columns of a tile.
struct TileSize;

impl WithSimd for TileSize {
    type Output = (usize, usize);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> (usize, usize) {
        let (height, n_vectors) = tile_size::<S>();
        (height, n_vectors * S::F32_LANES)
    }
}

/// Rows of a tile, and vectors in each: as many accumulators as leave registers for a row of the right
/// factor and a number of the left.
const fn tile_size<S: Simd>() -> (usize, usize) {
    match (S::F32_LANES, S::REGISTER_COUNT) {
        (16, _) => (12, 2),
        (8, _) => (6, 2),
        (4, 32) => (6, 4),
        _ => (4, 4),
    }
}

struct Multiply<'a> {
    a: Matrix<'a>,
    b: &'a Packed,
    c: &'a mut [f32],
    n_cols: usize,
    onto: Onto,
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match const { tile_size::<S>() } {
            (12, 2) => self.blocks::<S, 12, 2>(simd),
            (6, 2) => self.blocks::<S, 6, 2>(simd),
            (6, 4) => self.blocks::<S, 6, 4>(simd),
            _ => self.blocks::<S, 4, 4>(simd),
        }
    }
}

thread_local! {
    /// Where a task packs its part of the left factor.
    static LEFT: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

impl Multiply<'_> {
    #[inline(always)]
    fn blocks<S: Simd, const ROWS: usize, const VECTORS: usize>(self, simd: S) {
        let Self { a, b, c, n_cols, onto } = self;
        // Taken rather than borrowed: a closure would not be inlined, and what is not inlined is plain Rust.
        let mut packed = LEFT.take();
        for (block, start) in (0..a.cols).step_by(b.block.max(1)).enumerate() {
            let inner = start..(start + b.block).min(a.cols);
            let onto = if block == 0 { onto } else { Onto::What };
            if a.col_stride == 1 {
                let left = |row: usize, _: usize| {
                    let start = row * a.row_stride + inner.start;
                    Left { data: &a.data[start..], row_stride: a.row_stride, col_stride: 1 }
                };
                panels::<S, ROWS, VECTORS>(simd, a.rows, inner.len(), left, b, block, c, n_cols, onto);
            } else {
                pack_left::<ROWS>(a, inner.clone(), &mut packed);
                let left = |row: usize, n_rows: usize| Left {
                    data: &packed[row * inner.len()..],
                    row_stride: 1,
                    col_stride: n_rows,
                };
                panels::<S, ROWS, VECTORS>(simd, a.rows, inner.len(), left, b, block, c, n_cols, onto);
            }
        }
        LEFT.set(packed);
        if a.cols == 0 && onto == Onto::Nothing {
            c.fill(0.0);
        }
    }
}

/// Packs the columns `inner` of a left factor whose columns are contiguous: `HEIGHT` rows at a time, in each
/// one column after another.
#[inline(always)]
fn pack_left<const HEIGHT: usize>(a: Matrix<'_>, inner: Range<usize>, packed: &mut Vec<f32>) {
    packed.resize(a.rows * inner.len(), 0.0);
    let n_whole = a.rows - a.rows % HEIGHT;
    for row in (0..n_whole).step_by(HEIGHT) {
        let out = packed[row * inner.len()..][..HEIGHT * inner.len()].as_chunks_mut::<HEIGHT>().0;
        for (col, out) in inner.clone().zip(out) {
            let column = a.data[col * a.col_stride + row..].first_chunk::<HEIGHT>();
            *out = *column.expect("the rows are inside the matrix");
        }
    }
    let rest = a.rows - n_whole;
    if rest > 0 {
        let out = packed[n_whole * inner.len()..].chunks_exact_mut(rest);
        for (col, out) in inner.zip(out) {
            out.copy_from_slice(&a.data[col * a.col_stride + n_whole..][..rest]);
        }
    }
}

/// Some rows of a left factor: row `r` of column `p` is at `r · row_stride + p · col_stride`.
#[derive(Clone, Copy)]
struct Left<'a> {
    data: &'a [f32],
    row_stride: usize,
    col_stride: usize,
}

/// All tiles of one block of the inner dimension.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "the loop nest of one function, cut where the left factor differs"
)]
fn panels<'a, S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    n_rows: usize,
    n_inner: usize,
    left: impl Fn(usize, usize) -> Left<'a>,
    b: &Packed,
    block: usize,
    c: &mut [f32],
    stride: usize,
    onto: Onto,
) {
    let width = VECTORS * S::F32_LANES;
    for (idx, col) in (0..stride).step_by(width).enumerate() {
        let (panel, _) = S::as_simd_f32s(b.panel(block, idx, n_inner));
        let n_cols = width.min(stride - col);
        let mut row = 0;
        while row + ROWS <= n_rows {
            let acc = tile::<S, ROWS, VECTORS>(simd, left(row, ROWS), panel);
            store(simd, &acc, &mut c[row * stride + col..], stride, n_cols, onto);
            row += ROWS;
        }
        // What is left over, in tiles of half the height and of one row.
        while row < n_rows {
            let (rest, base) = (n_rows - row, row - row % ROWS);
            let left = left(base, n_rows - base);
            let left = Left { data: &left.data[(row % ROWS) * left.row_stride..], ..left };
            if rest >= 4 {
                let acc = tile::<S, 4, VECTORS>(simd, left, panel);
                store(simd, &acc, &mut c[row * stride + col..], stride, n_cols, onto);
                row += 4;
            } else if rest >= 2 {
                let acc = tile::<S, 2, VECTORS>(simd, left, panel);
                store(simd, &acc, &mut c[row * stride + col..], stride, n_cols, onto);
                row += 2;
            } else {
                let acc = tile::<S, 1, VECTORS>(simd, left, panel);
                store(simd, &acc, &mut c[row * stride + col..], stride, n_cols, onto);
                row += 1;
            }
        }
    }
}

/// One tile of the product of some rows and one panel.
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

/// Writes a tile, of which `n_cols` columns count, to rows `stride` apart.
#[inline(always)]
fn store<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    acc: &[[S::f32s; VECTORS]; ROWS],
    c: &mut [f32],
    stride: usize,
    n_cols: usize,
    onto: Onto,
) {
    for (r, acc) in acc.iter().enumerate() {
        let row = &mut c[r * stride..][..n_cols];
        if n_cols == VECTORS * S::F32_LANES {
            let (out, _) = S::as_mut_simd_f32s(row);
            for (acc, out) in acc.iter().zip(out) {
                *out = match onto {
                    Onto::Nothing => *acc,
                    Onto::What => simd.add_f32s(*acc, *out),
                };
            }
            continue;
        }
        for (acc, out) in acc.iter().zip(row.chunks_mut(S::F32_LANES)) {
            let value = match onto {
                Onto::Nothing => *acc,
                Onto::What => simd.add_f32s(*acc, simd.partial_load_f32s(out)),
            };
            simd.partial_store_f32s(out, value);
        }
    }
}
