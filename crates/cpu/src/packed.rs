//! The right operand of a product, packed in the order in which tiles read it.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::{
    factor::Factor,
    matrix::Matrix,
    parallel::{self, Shared},
    prefetch::prefetch,
    simd_level::SimdLevel,
};

/// Maximum block of the inner dimension: one panel of it fits the L1 cache.
const INNER_BLOCK: usize = 320;

/// Panels packed together, so that long pieces of each row are read.
const GROUP: usize = 8;

/// Contiguous columns packed together.
const COLS: usize = 4;

/// f32 values per cache line.
const LINE: usize = 16;

/// The right operand of a product, packed for one SIMD level.
#[derive(Default)]
pub(crate) struct Packed {
    layout: PanelLayout,
    /// As long as the largest operand so far. Values beyond the last column, or beyond the last row of a short block,
    /// are not used.
    data: Vec<f32>,
}

/// The order of packed values: block by block of the inner dimension, panels as wide as a tile in each block, `width`
/// values for each inner index in a panel.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PanelLayout {
    pub(crate) n_inner: usize,
    pub(crate) n_cols: usize,
    width: usize,
    /// Inner indices per block; the last block may be shorter.
    pub(crate) block: usize,
}

impl PanelLayout {
    /// The layout of a matrix `[n_inner, n_cols]`.
    pub(crate) fn new(level: SimdLevel, n_inner: usize, n_cols: usize) -> Self {
        let n_blocks = n_inner.div_ceil(INNER_BLOCK).max(1);
        let (_, width) = tile_size(level);
        Self { n_inner, n_cols, width, block: n_inner.div_ceil(n_blocks).max(1) }
    }

    /// Whether panels are as wide as the tiles of a level.
    pub(crate) fn is_for(&self, level: SimdLevel) -> bool {
        self.width == tile_size(level).1
    }

    /// Panels per block.
    fn n_panels(&self) -> usize {
        self.n_cols.div_ceil(self.width)
    }

    /// Elements per panel.
    fn panel_size(&self) -> usize {
        self.block * self.width
    }

    fn size(&self) -> usize {
        self.n_inner.div_ceil(self.block) * self.n_panels() * self.panel_size()
    }
}

impl Packed {
    pub(crate) fn layout(&self) -> PanelLayout {
        self.layout
    }

    /// Packs `b` on this core, reusing the buffer.
    pub(crate) fn pack(&mut self, level: SimdLevel, b: Matrix<'_>) {
        let (layout, out) = self.resize(level, b.rows, b.cols);
        level.run(Pack { layout, b: b.into(), start: 0, first: 0, out });
    }

    /// Packs `b` on all cores, reusing the buffer.
    pub(crate) fn pack_on_all_cores(&mut self, level: SimdLevel, b: Matrix<'_>) {
        self.pack_part(level, b.into(), 0..b.rows);
    }

    /// Packs some rows of `b` on all cores, reusing the buffer.
    pub(crate) fn pack_part(&mut self, level: SimdLevel, b: Factor<'_>, rows: Range<usize>) {
        let (layout, out) = self.resize(level, rows.len(), b.cols());
        let size = layout.panel_size();
        let shared = Shared::new(out);
        parallel::pieces(shared.len() / size, GROUP, size, |panels| {
            // SAFETY: pieces do not overlap.
            let out = unsafe { shared.part(panels.start * size..panels.end * size) };
            level.run(Pack { layout, b, start: rows.start, first: panels.start, out });
        });
    }

    fn resize(&mut self, level: SimdLevel, n_inner: usize, n_cols: usize) -> (PanelLayout, &mut [f32]) {
        self.layout = PanelLayout::new(level, n_inner, n_cols);
        let size = self.layout.size();
        if self.data.len() < size {
            self.data.resize(size, 0.0);
        }
        (self.layout, &mut self.data[..size])
    }

    /// The first `n_inner` indices of a panel of a block.
    pub(crate) fn panel(&self, block: usize, panel: usize, n_inner: usize) -> &[f32] {
        let start = (block * self.layout.n_panels() + panel) * self.layout.panel_size();
        &self.data[start..][..n_inner * self.layout.width]
    }
}

/// Packs panels from index `first` on, as many as fit in `out`.
struct Pack<'a> {
    layout: PanelLayout,
    b: Factor<'a>,
    /// The row of `b` that is inner index 0.
    start: usize,
    first: usize,
    out: &'a mut [f32],
}

impl WithSimd for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        match const { tile_of::<S>().1 * S::F32_LANES } {
            32 => self.panels::<32>(),
            16 => self.panels::<16>(),
            _ => self.panels::<4>(),
        }
    }
}

impl Pack<'_> {
    #[inline(always)]
    fn panels<const WIDTH: usize>(self) {
        let Self { layout, b, start: first_row, first, mut out } = self;
        let n_panels = layout.n_panels();
        let size = layout.block * WIDTH;
        let mut panel = first;
        let mut unpacked = Vec::new();
        while !out.is_empty() {
            let (block, start) = (panel / n_panels, panel % n_panels);
            let n = (n_panels - start).min(GROUP).min(out.len() / size);
            let group;
            (group, out) = out.split_at_mut(n * size);
            let inner = block * layout.block..((block + 1) * layout.block).min(layout.n_inner);
            let cols = start * WIDTH..((start + n) * WIDTH).min(layout.n_cols);
            let rows = first_row + inner.start..first_row + inner.end;
            let b = b.part(rows, cols, &mut unpacked);
            if b.col_stride == 1 {
                pack_rows::<WIDTH>(b, size, group);
            } else {
                pack_columns::<WIDTH>(b, size, group);
            }
            panel += n;
        }
    }
}

/// Packs a group of panels from contiguous rows.
#[inline(always)]
fn pack_rows<const WIDTH: usize>(b: Matrix<'_>, size: usize, out: &mut [f32]) {
    for idx in 0..b.rows {
        let (whole, rest) = b.row(idx).as_chunks::<WIDTH>();
        for (panel, values) in whole.iter().enumerate() {
            let start = panel * size + idx * WIDTH;
            out[start..start + WIDTH].copy_from_slice(values);
        }
        let start = whole.len() * size + idx * WIDTH;
        for (out, value) in out.iter_mut().skip(start).zip(rest) {
            *out = *value;
        }
    }
}

/// Packs a group of panels from contiguous columns.
#[inline(always)]
fn pack_columns<const WIDTH: usize>(b: Matrix<'_>, size: usize, out: &mut [f32]) {
    for (out, start) in out.chunks_exact_mut(size).zip((0..b.cols).step_by(WIDTH)) {
        let n = WIDTH.min(b.cols - start);
        let rows = out.as_chunks_mut::<WIDTH>().0;
        let column = |idx: usize| &b.data[(start + idx) * b.col_stride..][..b.rows];
        if n == WIDTH {
            for first in (0..WIDTH).step_by(COLS) {
                let columns: [&[f32]; COLS] = std::array::from_fn(|idx| column(first + idx));
                let (blocks, _) = rows[..b.rows].as_chunks_mut::<COLS>();
                for (block, rows) in blocks.iter_mut().enumerate() {
                    // A cache line of a later column: its reads are too short for the hardware prefetcher.
                    prefetch(columns[block % COLS], COLS * b.col_stride + block / COLS * LINE);
                    let square: [[f32; COLS]; COLS] = std::array::from_fn(|idx| {
                        *columns[idx][block * COLS..].first_chunk().expect("the block is inside the column")
                    });
                    for (p, row) in rows.iter_mut().enumerate() {
                        for (out, column) in row[first..first + COLS].iter_mut().zip(&square) {
                            *out = column[p];
                        }
                    }
                }
                for p in b.rows / COLS * COLS..b.rows {
                    for (out, column) in rows[p][first..first + COLS].iter_mut().zip(columns) {
                        *out = column[p];
                    }
                }
            }
        } else {
            for idx in 0..n {
                for (row, value) in rows.iter_mut().zip(column(idx)) {
                    row[idx] = *value;
                }
            }
        }
    }
}

/// Rows and columns per tile.
pub(crate) fn tile_size(level: SimdLevel) -> (usize, usize) {
    level.run(TileSize)
}

struct TileSize;

impl WithSimd for TileSize {
    type Output = (usize, usize);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> (usize, usize) {
        let (height, n_vectors) = tile_of::<S>();
        (height, n_vectors * S::F32_LANES)
    }
}

/// Rows per tile and vectors per row: as many accumulators as leave registers for one row of the right operand and one
/// value of the left.
pub(crate) const fn tile_of<S: Simd>() -> (usize, usize) {
    match (S::F32_LANES, S::REGISTER_COUNT) {
        (16, _) => (12, 2),
        (8, _) => (6, 2),
        (4, 32) => (6, 4),
        _ => (4, 4),
    }
}
