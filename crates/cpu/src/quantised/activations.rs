//! Activations with 8 bits.

use crate::{
    matrix::Matrix,
    parallel::{self, Shared},
    simd_level::SimdLevel,
};

/// Activations per group, as long as the longest block of weights.
pub(super) const GROUP: usize = 256;

/// Activations that share a scale.
pub(super) const BLOCK: usize = 32;

/// Below this, `127 / max |x|` would overflow. Such blocks become zeros.
const SMALLEST: f32 = 127.0 * f32::MIN_POSITIVE;

/// Rows of activations.
pub(crate) struct Activations {
    groups: Vec<Group>,
    groups_per_row: usize,
}

/// [`GROUP`] activations of a row: `x ≈ scale · q`. Those beyond the end of a row are zeros.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Group {
    pub(super) quanta: [i8; GROUP],
    /// The scale of each half block, so in pairs.
    pub(super) half_scales: [f32; 16],
    /// `Σ scale · q` of each half block.
    pub(super) half_sums: [f32; 16],
    pub(super) scales: [f32; 8],
    /// `Σ scale · q` of each block.
    pub(super) sums: [f32; 8],
}

impl Group {
    const ZERO: Self = Self {
        quanta: [0; GROUP],
        half_scales: [0.0; 16],
        half_sums: [0.0; 16],
        scales: [0.0; 8],
        sums: [0.0; 8],
    };

    /// The activations of a block.
    #[inline(always)]
    pub(super) fn block(&self, block: usize) -> &[i8; BLOCK] {
        &self.quanta.as_chunks().0[block]
    }
}

impl Activations {
    /// Quantises row-major rows.
    pub(crate) fn new(level: SimdLevel, x: Matrix<'_>) -> Self {
        let groups_per_row = x.cols().div_ceil(GROUP);
        let mut groups = vec![Group::ZERO; x.rows() * groups_per_row];
        let shared = Shared::new(&mut groups);
        parallel::pieces(x.rows(), 1, x.cols(), |rows| {
            for row in rows {
                // SAFETY: pieces do not overlap.
                let groups = unsafe { shared.part(row * groups_per_row..(row + 1) * groups_per_row) };
                let x = x.row(row);
                level.vectorize(
                    #[inline(always)]
                    || {
                        for (group, x) in groups.iter_mut().zip(x.chunks(GROUP)) {
                            quantise(x, group);
                        }
                    },
                );
            }
        });
        Self { groups, groups_per_row }
    }

    pub(super) fn n_rows(&self) -> usize {
        self.groups.len() / self.groups_per_row.max(1)
    }

    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> &[Group] {
        &self.groups[row * self.groups_per_row..][..self.groups_per_row]
    }
}

/// Quantises up to [`GROUP`] activations, of which a group has whole blocks of [`BLOCK`] or an unfinished last one.
#[inline(always)]
fn quantise(x: &[f32], group: &mut Group) {
    let (blocks, rest) = x.as_chunks::<BLOCK>();
    for (block, x) in blocks.iter().enumerate() {
        quantise_block(x, block, group);
    }
    if !rest.is_empty() {
        let mut x = [0.0; BLOCK];
        x[..rest.len()].copy_from_slice(rest);
        quantise_block(&x, blocks.len(), group);
    }
}

#[inline(always)]
fn quantise_block(x: &[f32; BLOCK], block: usize, group: &mut Group) {
    let (mut largest, mut check) = ([0.0_f32; 8], [0.0_f32; 8]);
    for x in x.as_chunks::<8>().0 {
        for ((largest, check), x) in largest.iter_mut().zip(&mut check).zip(x) {
            let size = x.abs();
            *largest = if size > *largest { size } else { *largest };
            // NaN for a NaN or an infinity, which must not disappear.
            *check += x * 0.0;
        }
    }
    let largest = largest.into_iter().fold(0.0, f32::max) + check.into_iter().sum::<f32>();
    let (scale, inverse) = if largest < SMALLEST { (0.0, 0.0) } else { (largest / 127.0, 127.0 / largest) };
    let quanta = &mut group.quanta.as_chunks_mut::<BLOCK>().0[block];
    let mut sums = [0_i32; 2];
    for ((sum, x), quanta) in sums.iter_mut().zip(x.as_chunks::<16>().0).zip(quanta.as_chunks_mut::<16>().0) {
        for (quantum, x) in quanta.iter_mut().zip(x) {
            // Adding 1.5 · 2^23 rounds to an integer, which is then in the low bits.
            const ROUND: f32 = 12_582_912.0;
            let integer = (x * inverse + ROUND).to_bits().cast_signed() - ROUND.to_bits().cast_signed();
            #[expect(clippy::cast_possible_truncation, reason = "at most 127 in size, but for NaN")]
            let narrow = integer as i8;
            *quantum = narrow;
            *sum += i32::from(narrow);
        }
    }
    let sums = sums.map(|sum| scale * sum as f32);
    group.half_scales[2 * block..][..2].fill(scale);
    group.half_sums[2 * block..][..2].copy_from_slice(&sums);
    group.scales[block] = scale;
    group.sums[block] = sums[0] + sums[1];
}
