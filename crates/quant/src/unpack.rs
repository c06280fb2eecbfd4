//! Unpacking to f32.
//!
//! Products and sums are in the order of the `gguf` Python package, so the values are the same bit for bit.

use bytemuck::AnyBitPattern;
use half::{bf16, f16, slice::HalfFloatSliceExt};

use crate::{Format, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0, blocks::half, scale_and_min};

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
        match self {
            Self::F16 => unpack_f16(bytes, values),
            Self::BF16 => unpack_bf16(bytes, values),
            Self::Q4_0 => unpack_blocks(bytes, values, unpack_q4_0),
            Self::Q4_1 => unpack_blocks(bytes, values, unpack_q4_1),
            Self::Q5_0 => unpack_blocks(bytes, values, unpack_q5_0),
            Self::Q5_1 => unpack_blocks(bytes, values, unpack_q5_1),
            Self::Q8_0 => unpack_blocks(bytes, values, unpack_q8_0),
            Self::Q4K => unpack_blocks(bytes, values, unpack_q4_k),
            Self::Q5K => unpack_blocks(bytes, values, unpack_q5_k),
            Self::Q6K => unpack_blocks(bytes, values, unpack_q6_k),
        }
    }
}

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

fn unpack_bf16(bytes: &[u8], values: &mut [f32]) {
    for (value, half) in values.iter_mut().zip(bytes.as_chunks().0) {
        *value = bf16::from_le_bytes(*half).to_f32();
    }
}

/// Unpacks blocks `B` of `N` values.
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

fn unpack_q4_0(block: &Q4_0, values: &mut [f32; 32]) {
    let scale = half(block.scale);
    for (idx, value) in values.iter_mut().enumerate() {
        *value = (f32::from(nibble(&block.nibbles, idx)) - 8.0) * scale;
    }
}

fn unpack_q4_1(block: &Q4_1, values: &mut [f32; 32]) {
    let (scale, min) = (half(block.scale), half(block.min));
    for (idx, value) in values.iter_mut().enumerate() {
        *value = f32::from(nibble(&block.nibbles, idx)) * scale + min;
    }
}

fn unpack_q5_0(block: &Q5_0, values: &mut [f32; 32]) {
    let (scale, high) = (half(block.scale), u32::from_le_bytes(block.high));
    for (idx, value) in values.iter_mut().enumerate() {
        let quantum = nibble(&block.nibbles, idx) | bit(high, idx) << 4;
        *value = (f32::from(quantum) - 16.0) * scale;
    }
}

fn unpack_q5_1(block: &Q5_1, values: &mut [f32; 32]) {
    let (scale, min, high) = (half(block.scale), half(block.min), u32::from_le_bytes(block.high));
    for (idx, value) in values.iter_mut().enumerate() {
        let quantum = nibble(&block.nibbles, idx) | bit(high, idx) << 4;
        *value = f32::from(quantum) * scale + min;
    }
}

fn unpack_q8_0(block: &Q8_0, values: &mut [f32; 32]) {
    let scale = half(block.scale);
    for (value, quantum) in values.iter_mut().zip(block.quanta) {
        *value = scale * f32::from(quantum);
    }
}

fn unpack_q4_k(block: &Q4_K, values: &mut [f32; 256]) {
    let (scale, min) = (half(block.scale), half(block.min));
    for (k, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (group_scale, group_min) = scale_and_min(&block.scales, k);
        let (scale, min) = (scale * f32::from(group_scale), min * f32::from(group_min));
        let nibbles = &block.nibbles[k / 2 * 32..][..32];
        for (value, byte) in values.iter_mut().zip(nibbles) {
            *value = scale * f32::from(byte >> (k % 2 * 4) & 15) - min;
        }
    }
}

fn unpack_q5_k(block: &Q5_K, values: &mut [f32; 256]) {
    let (scale, min) = (half(block.scale), half(block.min));
    for (k, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (group_scale, group_min) = scale_and_min(&block.scales, k);
        let (scale, min) = (scale * f32::from(group_scale), min * f32::from(group_min));
        let nibbles = &block.nibbles[k / 2 * 32..][..32];
        for ((value, byte), high) in values.iter_mut().zip(nibbles).zip(block.high) {
            let quantum = byte >> (k % 2 * 4) & 15 | (high >> k & 1) << 4;
            *value = scale * f32::from(quantum) - min;
        }
    }
}

fn unpack_q6_k(block: &Q6_K, values: &mut [f32; 256]) {
    let scale = half(block.scale);
    for (group, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = scale * f32::from(block.scales[group]);
        let (part, k, first) = (group / 8, group / 2 % 4, group % 2 * 16);
        let low = &block.low[64 * part + 32 * (k % 2) + first..][..16];
        let high = &block.high[32 * part + first..][..16];
        for ((value, low), high) in values.iter_mut().zip(low).zip(high) {
            let quantum = low >> (k / 2 * 4) & 15 | (high >> (2 * k) & 3) << 4;
            *value = scale * (f32::from(quantum) - 32.0);
        }
    }
}

/// Value `idx` of 32 nibbles.
#[inline(always)]
fn nibble(nibbles: &[u8; 16], idx: usize) -> u8 {
    if idx < 16 { nibbles[idx] & 15 } else { nibbles[idx - 16] >> 4 }
}

#[inline(always)]
fn bit(bits: u32, idx: usize) -> u8 {
    u8::from(bits >> idx & 1 == 1)
}
