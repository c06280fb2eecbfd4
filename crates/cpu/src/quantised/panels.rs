//! Products with many rows: integer tiles over an interleaved copy of the weight.
//!
//! A task copies [`WIDTH`] rows of the weight to a panel, whose integers lie in the order in which a tile reads them:
//! for every four inputs, four bytes of each row. Then it multiplies all rows of activations by the panel.

use quant::{Format, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};

use super::{
    activations::{Activations, BLOCK, GROUP, Group},
    formats::{Integers, Quantised},
    vectors::{Vectors, WithVectors},
    weight::QuantRows,
    wide::{LANES, Wide, WideLevel, WithWide},
};
use crate::{
    parallel::{self, SharedBuffer},
    simd_level::SimdLevel,
};

/// Vectors per row of a tile.
const VECTORS: usize = 2;

/// Outputs per panel.
const WIDTH: usize = VECTORS * LANES;

/// Rows per tile.
const HEIGHT: usize = 6;

/// Inputs multiplied by one instruction.
const STEP: usize = 4;

/// Steps per group of activations.
const STEPS: usize = GROUP / STEP;

/// Whether products with this format have integer tiles.
pub(crate) fn has_tiles(level: WideLevel, format: Format) -> bool {
    level.has_tiles() && !matches!(format, Format::F16 | Format::BF16)
}

/// Computes `x · wᵀ` as the columns of `c` from `start` on. Rows of `c` have `width` elements.
pub(crate) fn multiply(
    level: SimdLevel,
    x: &Activations,
    w: QuantRows<'_>,
    c: SharedBuffer<'_>,
    start: usize,
    width: usize,
) {
    let [n_out, n_in] = w.dims();
    let n_rows = x.n_rows();
    parallel::pieces(n_out.div_ceil(WIDTH), 1, WIDTH * n_in, |panels| {
        let mut panel = Panel::new(w.format(), n_in);
        for idx in panels {
            let outputs = idx * WIDTH..((idx + 1) * WIDTH).min(n_out);
            level.int8().run_with_tiles(Pack { w: w.row_range(outputs.clone()), panel: &mut panel });
            let range = |row: usize| row * width + start + outputs.start..row * width + start + outputs.end;
            // SAFETY: panels do not overlap.
            let c = (0..n_rows).map(|row| unsafe { c.zeroed(range(row)) }).collect();
            level.int8().wide().run(Tiles { x, panel: &panel, c });
        }
    });
}

/// Some rows of a weight, interleaved. Missing rows are zeros.
struct Panel {
    n_in: usize,
    /// Inputs that share a scale.
    unit: usize,
    /// For each step, vectors with [`STEP`] bytes of each row.
    quanta: Vec<[[u8; STEP * LANES]; VECTORS]>,
    /// For each unit.
    scales: Vec<[[f32; LANES]; VECTORS]>,
    offsets: Vec<[[f32; LANES]; VECTORS]>,
}

impl Panel {
    fn new(format: Format, n_in: usize) -> Self {
        let unit = if format == Format::Q6K { BLOCK / 2 } else { BLOCK };
        let n_units = n_in.div_ceil(unit);
        let zeros = vec![[[0.0; LANES]; VECTORS]; n_units];
        let quanta = vec![[[0; STEP * LANES]; VECTORS]; n_units * unit / STEP];
        Self { n_in, unit, quanta, scales: zeros.clone(), offsets: zeros }
    }

    /// Sets a group of the inputs of a row.
    #[inline(always)]
    fn set(&mut self, row: usize, group: usize, integers: &Integers) {
        let (vector, lane) = (row / LANES, row % LANES);
        let quanta = self.quanta[group * STEPS..].iter_mut();
        for (out, quanta) in quanta.zip(integers.quanta.as_chunks::<STEP>().0) {
            out[vector].as_chunks_mut::<STEP>().0[lane] = *quanta;
        }
        let (first, stride) = (group * GROUP / self.unit, self.unit / (BLOCK / 2));
        for (out, scale) in self.scales[first..].iter_mut().zip(integers.scales.iter().step_by(stride)) {
            out[vector][lane] = *scale;
        }
        for (out, offset) in self.offsets[first..].iter_mut().zip(integers.offsets.iter().step_by(stride)) {
            out[vector][lane] = *offset;
        }
    }
}

/// Copies rows of a weight to a panel.
struct Pack<'a> {
    w: QuantRows<'a>,
    panel: &'a mut Panel,
}

impl WithVectors for Pack<'_> {
    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        match self.w.format() {
            Format::Q4_0 => self.rows::<V, Q4_0>(v),
            Format::Q4_1 => self.rows::<V, Q4_1>(v),
            Format::Q5_0 => self.rows::<V, Q5_0>(v),
            Format::Q5_1 => self.rows::<V, Q5_1>(v),
            Format::Q8_0 => self.rows::<V, Q8_0>(v),
            Format::Q4K => self.rows::<V, Q4_K>(v),
            Format::Q5K => self.rows::<V, Q5_K>(v),
            Format::Q6K => self.rows::<V, Q6_K>(v),
            Format::F16 | Format::BF16 => unreachable!("not integers"),
        }
    }
}

impl Pack<'_> {
    #[inline(always)]
    fn rows<V: Vectors, B: Quantised>(self, v: V) {
        let Self { w, panel } = self;
        let [n_out, _] = w.dims();
        let mut integers = Integers::ZERO;
        for row in 0..n_out {
            let blocks: &[B] = bytemuck::cast_slice(w.row(row));
            for (group, blocks) in blocks.chunks(B::BLOCKS).enumerate() {
                B::unpack(v, blocks, &mut integers);
                panel.set(row, group, &integers);
            }
        }
        // Rows of an earlier panel.
        let zeros = Integers::ZERO;
        for row in n_out..WIDTH {
            for group in 0..panel.n_in.div_ceil(GROUP) {
                panel.set(row, group, &zeros);
            }
        }
    }
}

/// Multiplies all rows of activations by a panel.
struct Tiles<'a> {
    x: &'a Activations,
    panel: &'a Panel,
    c: Vec<&'a mut [f32]>,
}

impl WithWide for Tiles<'_> {
    #[inline(always)]
    fn run<W: Wide>(self, w: W) {
        if self.panel.unit == BLOCK { self.rows::<W, BLOCK>(w) } else { self.rows::<W, { BLOCK / 2 }>(w) }
    }
}

impl Tiles<'_> {
    #[inline(always)]
    fn rows<W: Wide, const UNIT: usize>(mut self, w: W) {
        let mut row = 0;
        while row < self.c.len() {
            row += match self.c.len() - row {
                1 => self.tile::<W, UNIT, 1>(w, row),
                2..HEIGHT => self.tile::<W, UNIT, 2>(w, row),
                _ => self.tile::<W, UNIT, HEIGHT>(w, row),
            };
        }
    }

    /// Computes `R` rows from `first` on. Returns `R`.
    #[inline(always)]
    fn tile<W: Wide, const UNIT: usize, const R: usize>(&mut self, w: W, first: usize) -> usize {
        let mut rows = [[].as_slice(); R];
        for (idx, row) in rows.iter_mut().enumerate() {
            *row = self.x.row(first + idx);
        }
        let panel = self.panel;
        let units_per_group = GROUP / UNIT;
        let mut sums = [[w.zeros(); VECTORS]; R];
        let groups = panel.quanta.chunks(STEPS).zip(panel.scales.chunks(units_per_group));
        let groups = groups.zip(panel.offsets.chunks(units_per_group)).enumerate();
        for (idx, ((quanta, scales), offsets)) in groups {
            let x: [&Group; R] = rows.map(|row| &row[idx]);
            let units = quanta.chunks_exact(UNIT / STEP).zip(scales).zip(offsets).enumerate();
            for (unit, ((quanta, scales), offsets)) in units {
                let mut dots = [[w.zero_ints(); VECTORS]; R];
                for (step, quanta) in quanta.iter().enumerate() {
                    let quanta = [w.bytes(&quanta[0]), w.bytes(&quanta[1])];
                    for (dots, x) in dots.iter_mut().zip(x) {
                        let x = x.quanta.as_chunks::<STEP>().0[unit * (UNIT / STEP) + step];
                        for (dots, quanta) in dots.iter_mut().zip(quanta) {
                            *dots = w.add_dots(*dots, quanta, x);
                        }
                    }
                }
                let scales = [w.load(&scales[0]), w.load(&scales[1])];
                let offsets = [w.load(&offsets[0]), w.load(&offsets[1])];
                for ((sums, dots), x) in sums.iter_mut().zip(dots).zip(x) {
                    let (scale, sum) = if UNIT == BLOCK {
                        (x.scales[unit], x.sums[unit])
                    } else {
                        (x.half_scales[unit], x.half_sums[unit])
                    };
                    for (vector, sums) in sums.iter_mut().enumerate() {
                        *sums =
                            w.mul_add(w.mul(w.floats(dots[vector]), scales[vector]), w.splat(scale), *sums);
                        *sums = w.mul_add(offsets[vector], w.splat(sum), *sums);
                    }
                }
            }
        }
        for (c, sums) in self.c[first..].iter_mut().zip(sums) {
            for (c, sums) in c.chunks_mut(LANES).zip(sums) {
                c.copy_from_slice(&w.store(sums)[..c.len()]);
            }
        }
        R
    }
}
