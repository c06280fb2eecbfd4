//! Unpacking to f32.
//!
//! Products and sums are in the order of the `gguf` Python package, so the values are the same bit for bit.

use bytemuck::AnyBitPattern;
use half::{f16, slice::HalfFloatSliceExt};
use pulp::{Arch, Simd, WithSimd};

use crate::half_float::{bf16_to_f32, f16_to_f32};
use crate::{Format, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0, scales_and_mins};

/// Half-precision values that are converted together.
const CHUNK: usize = 256;

impl Format {
    /// Unpacks `bytes`, a whole number of blocks. NaN and infinity are kept.
    ///
    /// # Panics
    ///
    /// If `values` has another length than the blocks.
    pub fn unpack(self, bytes: &[u8], values: &mut [f32]) {
        assert_eq!(bytes.len(), self.row_bytes(values.len()), "{} values in {self}", values.len());
        Arch::new().dispatch(Unpack { format: self, bytes, values });
    }
}

pub(crate) struct Unpack<'a> {
    pub(crate) format: Format,
    pub(crate) bytes: &'a [u8],
    pub(crate) values: &'a mut [f32],
}

impl WithSimd for Unpack<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { format, bytes, values } = self;
        match format {
            Format::F16 => unpack_f16(bytes, values),
            Format::BF16 => unpack_blocks(bytes, values, |half: &[u8; 2], [value]: &mut [f32; 1]| {
                *value = bf16_to_f32(*half);
            }),
            Format::Q4_0 => unpack_blocks(bytes, values, unpack_q4_0),
            Format::Q4_1 => unpack_blocks(bytes, values, unpack_q4_1),
            Format::Q5_0 => unpack_blocks(bytes, values, unpack_q5_0),
            Format::Q5_1 => unpack_blocks(bytes, values, unpack_q5_1),
            Format::Q8_0 => unpack_blocks(bytes, values, unpack_q8_0),
            Format::Q4K => unpack_blocks(bytes, values, unpack_q4_k),
            Format::Q5K => unpack_blocks(bytes, values, unpack_q5_k),
            Format::Q6K => unpack_blocks(bytes, values, unpack_q6_k),
        }
    }
}

#[inline(always)]
fn unpack_f16(bytes: &[u8], values: &mut [f32]) {
    // In chunks, since the conversion of a slice uses vector instructions.
    let mut halves = [f16::ZERO; CHUNK];
    for (values, bytes) in values.chunks_mut(CHUNK).zip(bytes.as_chunks().0.chunks(CHUNK)) {
        let halves = &mut halves[..bytes.len()];
        for (half, bytes) in halves.iter_mut().zip(bytes) {
            *half = f16::from_le_bytes(*bytes);
        }
        halves.convert_to_f32_slice(values);
    }
}

/// Unpacks blocks `B` of `N` values.
#[inline(always)]
fn unpack_blocks<B: AnyBitPattern, const N: usize>(
    bytes: &[u8],
    values: &mut [f32],
    unpack: impl Fn(&B, &mut [f32; N]),
) {
    let blocks: &[B] = bytemuck::cast_slice(bytes);
    for (block, values) in blocks.iter().zip(values.as_chunks_mut().0) {
        unpack(block, values);
    }
}

#[inline(always)]
fn unpack_q4_0(block: &Q4_0, values: &mut [f32; 32]) {
    let scale = f16_to_f32(block.scale);
    unpack_nibbles(&block.nibbles, values, |quantum, _| (f32::from(quantum) - 8.0) * scale);
}

#[inline(always)]
fn unpack_q4_1(block: &Q4_1, values: &mut [f32; 32]) {
    let (scale, min) = (f16_to_f32(block.scale), f16_to_f32(block.min));
    unpack_nibbles(&block.nibbles, values, |quantum, _| f32::from(quantum) * scale + min);
}

#[inline(always)]
fn unpack_q5_0(block: &Q5_0, values: &mut [f32; 32]) {
    let (scale, high) = (f16_to_f32(block.scale), u32::from_le_bytes(block.high));
    unpack_nibbles(&block.nibbles, values, |quantum, idx| {
        (f32::from(quantum | bit(high, idx) << 4) - 16.0) * scale
    });
}

#[inline(always)]
fn unpack_q5_1(block: &Q5_1, values: &mut [f32; 32]) {
    let (scale, min) = (f16_to_f32(block.scale), f16_to_f32(block.min));
    let high = u32::from_le_bytes(block.high);
    unpack_nibbles(&block.nibbles, values, |quantum, idx| {
        f32::from(quantum | bit(high, idx) << 4) * scale + min
    });
}

#[inline(always)]
fn unpack_q8_0(block: &Q8_0, values: &mut [f32; 32]) {
    let scale = f16_to_f32(block.scale);
    for (value, quantum) in values.iter_mut().zip(block.quanta) {
        *value = scale * f32::from(quantum);
    }
}

#[inline(always)]
fn unpack_q4_k(block: &Q4_K, values: &mut [f32; 256]) {
    let groups = groups(block.scale, block.min, &block.scales);
    let pairs = groups.as_chunks().0.iter().zip(block.nibbles.as_chunks::<32>().0);
    for (values, ([first, second], nibbles)) in values.as_chunks_mut::<64>().0.iter_mut().zip(pairs) {
        let (first_values, second_values) = values.split_at_mut(32);
        for ((low, high), byte) in first_values.iter_mut().zip(second_values).zip(nibbles) {
            *low = first.value(byte & 15);
            *high = second.value(byte >> 4);
        }
    }
}

#[inline(always)]
fn unpack_q5_k(block: &Q5_K, values: &mut [f32; 256]) {
    // The lowest two bits belong to the pair. Shifts of bytes by a constant are faster than others.
    let mut fifth_bits = block.high;
    let groups = groups(block.scale, block.min, &block.scales);
    let pairs = groups.as_chunks().0.iter().zip(block.nibbles.as_chunks::<32>().0);
    for (values, ([first, second], nibbles)) in values.as_chunks_mut::<64>().0.iter_mut().zip(pairs) {
        let (first_values, second_values) = values.split_at_mut(32);
        let bytes = nibbles.iter().zip(&mut fifth_bits);
        for ((low, high), (byte, bits)) in first_values.iter_mut().zip(second_values).zip(bytes) {
            *low = first.value(byte & 15 | (*bits & 1) << 4);
            *high = second.value(byte >> 4 | (*bits & 2) << 3);
            *bits >>= 2;
        }
    }
}

/// The scale and the offset of a group.
struct Group {
    scale: f32,
    min: f32,
}

impl Group {
    #[inline(always)]
    fn value(&self, quantum: u8) -> f32 {
        self.scale * f32::from(quantum) - self.min
    }
}

#[inline(always)]
fn groups(scale: [u8; 2], min: [u8; 2], scales: &[u8; 12]) -> [Group; 8] {
    let (scale, min) = (f16_to_f32(scale), f16_to_f32(min));
    let (scales, mins) = scales_and_mins(scales);
    std::array::from_fn(|k| Group { scale: scale * f32::from(scales[k]), min: min * f32::from(mins[k]) })
}

#[inline(always)]
fn unpack_q6_k(block: &Q6_K, values: &mut [f32; 256]) {
    let scale = f16_to_f32(block.scale);
    for (half, values) in values.as_chunks_mut::<128>().0.iter_mut().enumerate() {
        let [low, high] = [&block.low[64 * half..][..64], &block.high[32 * half..][..32]];
        for first in [0, 16] {
            // The four groups at `first`, 32 values apart, share bytes.
            let scales: [f32; 4] =
                std::array::from_fn(|k| scale * f32::from(block.scales[8 * half + 2 * k + first / 16]));
            for idx in first..first + 16 {
                let (a, b, bits) = (low[idx], low[32 + idx], high[idx]);
                let quanta = [
                    a & 15 | (bits & 3) << 4,
                    b & 15 | (bits & 12) << 2,
                    a >> 4 | bits & 48,
                    b >> 4 | (bits & 192) >> 2,
                ];
                for k in 0..4 {
                    values[32 * k + idx] = scales[k] * (f32::from(quanta[k]) - 32.0);
                }
            }
        }
    }
}

/// Calls `unpack` with each of 32 nibbles and its index.
#[inline(always)]
fn unpack_nibbles(nibbles: &[u8; 16], values: &mut [f32; 32], unpack: impl Fn(u8, usize) -> f32) {
    let (first, last) = values.split_at_mut(16);
    for (idx, (value, byte)) in first.iter_mut().zip(nibbles).enumerate() {
        *value = unpack(byte & 15, idx);
    }
    for (idx, (value, byte)) in last.iter_mut().zip(nibbles).enumerate() {
        *value = unpack(byte >> 4, 16 + idx);
    }
}

#[inline(always)]
fn bit(bits: u32, idx: usize) -> u8 {
    (bits >> idx & 1) as u8
}
