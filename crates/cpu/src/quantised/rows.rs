//! Products with a few rows: each weight is read once for all of them.
//!
//! The order of each sum depends only on its length, so the bits of a row do not depend on the other rows.

use quant::{Format, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};

use super::{
    activations::{Activations, Group},
    formats::{Quantised, Sums},
    vectors::{Vectors, WithVectors},
    weight::QuantRows,
};
use crate::{
    math::dot,
    matrix::Matrix,
    parallel::{self, SharedBuffer},
    prefetch::prefetch_ahead,
    simd_level::SimdLevel,
};

/// Distance of prefetched weights, in bytes. The hardware prefetches only up to the end of a page of 4 KiB.
const AHEAD: usize = 4096;

/// A task's outputs are a multiple of this, one cache line.
const UNIT: usize = 16;

/// Computes `x · wᵀ` for each block `(start, w)`, as the columns of `c` from `start` on. Rows of `c` have `width`
/// elements.
pub(crate) fn multiply(
    level: SimdLevel,
    x: Matrix<'_>,
    blocks: &[(usize, QuantRows<'_>)],
    c: SharedBuffer<'_>,
    width: usize,
) {
    let n_outputs = blocks.iter().map(|(_, w)| w.dims()[0]).sum();
    let has_products = level.int8().has_products();
    let has_integers = blocks.iter().any(|(_, w)| !is_half(w.format()));
    let quantised = (has_products && has_integers).then(|| Activations::new(level, x));
    parallel::pieces(n_outputs, UNIT, x.cols(), |outputs| {
        let mut before = 0;
        for (start, w) in blocks {
            let [n_out, _] = w.dims();
            // The block's outputs inside the piece.
            let part = outputs.start.clamp(before, before + n_out) - before
                ..outputs.end.clamp(before, before + n_out) - before;
            before += n_out;
            if part.is_empty() {
                continue;
            }
            let range = |row: usize| row * width + start + part.start..row * width + start + part.end;
            // SAFETY: blocks do not overlap, nor do pieces.
            let c = (0..x.rows()).map(|row| unsafe { c.zeroed(range(row)) }).collect();
            let w = w.row_range(part);
            match &quantised {
                Some(quantised) if !is_half(w.format()) => {
                    level.int8().run(IntegerProduct { x: quantised, w, c });
                }
                _ if has_products => level.int8().run(HalfProduct { x, w, c }),
                _ => multiply_unpacked(level, x, w, c),
            }
        }
    });
}

/// A product in f32, unpacking one row of the weight at a time.
fn multiply_unpacked(level: SimdLevel, x: Matrix<'_>, w: QuantRows<'_>, mut c: Vec<&mut [f32]>) {
    let [n_out, n_in] = w.dims();
    let mut values = vec![0.0; n_in];
    for output in 0..n_out {
        w.unpack(output, 0..n_in, &mut values);
        level.vectorize(
            #[inline(always)]
            || {
                for (row, c) in c.iter_mut().enumerate() {
                    c[output] = dot(&values, x.row(row));
                }
            },
        );
    }
}

fn is_half(format: Format) -> bool {
    matches!(format, Format::F16 | Format::BF16)
}

/// A product with integer weights.
struct IntegerProduct<'a> {
    x: &'a Activations,
    w: QuantRows<'a>,
    c: Vec<&'a mut [f32]>,
}

impl WithVectors for IntegerProduct<'_> {
    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        match self.w.format() {
            Format::Q4_0 => self.outputs::<V, Q4_0>(v),
            Format::Q4_1 => self.outputs::<V, Q4_1>(v),
            Format::Q5_0 => self.outputs::<V, Q5_0>(v),
            Format::Q5_1 => self.outputs::<V, Q5_1>(v),
            Format::Q8_0 => self.outputs::<V, Q8_0>(v),
            Format::Q4K => self.outputs::<V, Q4_K>(v),
            Format::Q5K => self.outputs::<V, Q5_K>(v),
            Format::Q6K => self.outputs::<V, Q6_K>(v),
            Format::F16 | Format::BF16 => unreachable!("not integers"),
        }
    }
}

impl IntegerProduct<'_> {
    #[inline(always)]
    fn outputs<V: Vectors, B: Quantised>(self, v: V) {
        let Self { x, w, mut c } = self;
        for output in 0..w.dims()[0] {
            let blocks: &[B] = bytemuck::cast_slice(w.row(output));
            let mut row = 0;
            while row < c.len() {
                row += match c.len() - row {
                    ..4 => store(v, dots::<V, B, 1>(v, blocks, x, row), &mut c[row..], output),
                    _ => store(v, dots::<V, B, 4>(v, blocks, x, row), &mut c[row..], output),
                };
            }
        }
    }
}

/// The dot products of a row of weights with `R` rows of activations from `first` on.
#[inline(always)]
fn dots<V: Vectors, B: Quantised, const R: usize>(
    v: V,
    blocks: &[B],
    x: &Activations,
    first: usize,
) -> [Sums<V>; R] {
    let mut rows = [[].as_slice(); R];
    for (idx, row) in rows.iter_mut().enumerate() {
        *row = x.row(first + idx);
    }
    let mut sums = [[v.splat(0.0); 2]; R];
    for (idx, blocks) in blocks.chunks(B::BLOCKS).enumerate() {
        prefetch_ahead(blocks, AHEAD);
        let groups: [&Group; R] = rows.map(|row| &row[idx]);
        B::add_products(v, blocks, groups, &mut sums);
    }
    sums
}

/// Stores an output of `R` rows. Returns `R`.
#[inline(always)]
fn store<V: Vectors, const R: usize>(v: V, sums: [Sums<V>; R], c: &mut [&mut [f32]], output: usize) -> usize {
    for (c, [first, second]) in c.iter_mut().zip(sums) {
        c[output] = v.sum(v.add(first, second));
    }
    R
}

/// A product with weights in f16 or bf16, in f32.
struct HalfProduct<'a> {
    x: Matrix<'a>,
    w: QuantRows<'a>,
    c: Vec<&'a mut [f32]>,
}

impl WithVectors for HalfProduct<'_> {
    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        if self.w.format() == Format::F16 {
            self.outputs(
                v,
                #[inline(always)]
                |halves| v.f16s(halves),
            );
        } else {
            self.outputs(
                v,
                #[inline(always)]
                |halves| v.bf16s(halves),
            );
        }
    }
}

impl HalfProduct<'_> {
    #[inline(always)]
    fn outputs<V: Vectors>(self, v: V, convert: impl Fn([[u8; 2]; 8]) -> V::Floats + Copy) {
        let Self { x, w, mut c } = self;
        for output in 0..w.dims()[0] {
            let halves: &[[u8; 2]] = bytemuck::cast_slice(w.row(output));
            let mut row = 0;
            while row < c.len() {
                row += match c.len() - row {
                    ..4 => store(v, half_dots::<V, 1>(v, halves, convert, x, row), &mut c[row..], output),
                    _ => store(v, half_dots::<V, 4>(v, halves, convert, x, row), &mut c[row..], output),
                };
            }
        }
    }
}

/// Sums per row of activations in [`half_dots`].
const HALF_SUMS: usize = 4;

/// The dot products of a row of weights with `R` rows of activations from `first` on.
#[inline(always)]
fn half_dots<V: Vectors, const R: usize>(
    v: V,
    halves: &[[u8; 2]],
    convert: impl Fn([[u8; 2]; 8]) -> V::Floats,
    x: Matrix<'_>,
    first: usize,
) -> [Sums<V>; R] {
    let mut rows = [[].as_slice(); R];
    for (idx, row) in rows.iter_mut().enumerate() {
        *row = x.row(first + idx);
    }
    let mut sums = [[v.splat(0.0); HALF_SUMS]; R];
    let (chunks, rest) = halves.as_chunks::<{ 8 * HALF_SUMS }>();
    for (idx, halves) in chunks.iter().enumerate() {
        for (part, halves) in halves.as_chunks::<8>().0.iter().enumerate() {
            let w = convert(*halves);
            for (sums, row) in sums.iter_mut().zip(rows) {
                let x = row[8 * (HALF_SUMS * idx + part)..].first_chunk().expect("rows are equally long");
                sums[part] = v.mul_add(w, v.load(x), sums[part]);
            }
        }
    }
    let done = halves.len() - rest.len();
    for (idx, part) in rest.chunks(8).enumerate() {
        let mut w = [[0; 2]; 8];
        w[..part.len()].copy_from_slice(part);
        let w = convert(w);
        for (sums, row) in sums.iter_mut().zip(rows) {
            let mut x = [0.0; 8];
            x[..part.len()].copy_from_slice(&row[done + 8 * idx..][..part.len()]);
            sums[0] = v.mul_add(w, v.load(&x), sums[0]);
        }
    }
    sums.map(|[a, b, c, d]| [v.add(a, b), v.add(c, d)])
}
