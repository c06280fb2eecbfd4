//! The layouts of blocks.
//!
//! All fields are bytes, so a block may start at any address. Half-precision fields are `f16` in little-endian order.

use bytemuck::{Pod, Zeroable};

/// 32 values of 4 bits: `scale · (q - 8)`.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Q4_0 {
    pub scale: [u8; 2],
    /// The low nibbles are the first 16 values, the high nibbles the others.
    pub nibbles: [u8; 16],
}

/// 32 values of 4 bits: `scale · q + min`.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Q4_1 {
    pub scale: [u8; 2],
    pub min: [u8; 2],
    /// As in [`Q4_0`].
    pub nibbles: [u8; 16],
}

/// 32 values of 5 bits: `scale · (q - 16)`.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Q5_0 {
    pub scale: [u8; 2],
    /// The fifth bit of value `i` is bit `i`, in little-endian order.
    pub high: [u8; 4],
    /// As in [`Q4_0`].
    pub nibbles: [u8; 16],
}

/// 32 values of 5 bits: `scale · q + min`.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Q5_1 {
    pub scale: [u8; 2],
    pub min: [u8; 2],
    /// As in [`Q5_0`].
    pub high: [u8; 4],
    /// As in [`Q4_0`].
    pub nibbles: [u8; 16],
}

/// 32 values of 8 bits: `scale · q`.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Q8_0 {
    pub scale: [u8; 2],
    pub quanta: [i8; 32],
}

/// 256 values of 4 bits in groups of 32: `scale · scaleₖ · q - min · minₖ`.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types, reason = "ggml's name")]
pub struct Q4_K {
    pub scale: [u8; 2],
    pub min: [u8; 2],
    /// Scales and minima of the groups, 6 bits each: see [`scales_and_mins`].
    pub scales: [u8; 12],
    /// 32 bytes for two groups: the low nibbles are the first group, the high nibbles the second.
    pub nibbles: [u8; 128],
}

/// 256 values of 5 bits in groups of 32: `scale · scaleₖ · q - min · minₖ`.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types, reason = "ggml's name")]
pub struct Q5_K {
    pub scale: [u8; 2],
    pub min: [u8; 2],
    /// As in [`Q4_K`].
    pub scales: [u8; 12],
    /// The fifth bit of value `i` of group `k` is bit `k` of byte `i`.
    pub high: [u8; 32],
    /// As in [`Q4_K`].
    pub nibbles: [u8; 128],
}

/// 256 values of 6 bits in groups of 16: `scale · scaleₖ · (q - 32)`.
///
/// A half of 128 values has 64 bytes of `low` and 32 of `high`. Its value `32 k + i` has the low nibble of byte `i` for
/// k = 0, of byte `32 + i` for k = 1, and the high nibbles of the same bytes for k = 2 and 3; its upper two bits are
/// bits `2 k` and `2 k + 1` of byte `i` of `high`.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types, reason = "ggml's name")]
pub struct Q6_K {
    pub low: [u8; 128],
    pub high: [u8; 64],
    pub scales: [i8; 16],
    pub scale: [u8; 2],
}

/// The 6-bit scales and minima of the groups of a [`Q4_K`] or [`Q5_K`].
///
/// Each of the first eight bytes has a whole value in its lower 6 bits: four scales, then four minima. The last four
/// bytes have the low and high nibbles of the other four scales and minima. The upper two bits of the first eight bytes
/// complete them.
#[inline(always)]
pub fn scales_and_mins(scales: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *scales;
    // Four values at a time.
    let scale = u32::from_le_bytes([a, b, c, d]);
    let min = u32::from_le_bytes([e, f, g, h]);
    let nibbles = u32::from_le_bytes([i, j, k, l]);
    let joined = [
        scale & 0x3F3F_3F3F,
        nibbles & 0x0F0F_0F0F | scale >> 2 & 0x3030_3030,
        min & 0x3F3F_3F3F,
        nibbles >> 4 & 0x0F0F_0F0F | min >> 2 & 0x3030_3030,
    ];
    let pair = |first: u32, second: u32| (u64::from(first) | u64::from(second) << 32).to_le_bytes();
    (pair(joined[0], joined[1]), pair(joined[2], joined[3]))
}

/// Stores 6-bit scales and minima as [`scales_and_mins`] reads them.
#[inline(always)]
pub(crate) fn pack_scales_and_mins(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for k in 0..4 {
        packed[k] = scales[k] | scales[k + 4] >> 4 << 6;
        packed[k + 4] = mins[k] | mins[k + 4] >> 4 << 6;
        packed[k + 8] = scales[k + 4] & 15 | mins[k + 4] << 4;
    }
    packed
}
