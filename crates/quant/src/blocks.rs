//! The layouts of blocks.
//!
//! All fields are bytes, so a block may start at any address. Half-precision fields are `f16` in little-endian order.

use bytemuck::AnyBitPattern;
use half::f16;

/// 32 values of 4 bits: `scale · (q - 8)`.
#[derive(Debug, Clone, Copy, AnyBitPattern)]
#[repr(C)]
pub struct Q4_0 {
    pub scale: [u8; 2],
    /// The low nibbles are the first 16 values, the high nibbles the others.
    pub nibbles: [u8; 16],
}

/// 32 values of 4 bits: `scale · q + min`.
#[derive(Debug, Clone, Copy, AnyBitPattern)]
#[repr(C)]
pub struct Q4_1 {
    pub scale: [u8; 2],
    pub min: [u8; 2],
    /// As in [`Q4_0`].
    pub nibbles: [u8; 16],
}

/// 32 values of 5 bits: `scale · (q - 16)`.
#[derive(Debug, Clone, Copy, AnyBitPattern)]
#[repr(C)]
pub struct Q5_0 {
    pub scale: [u8; 2],
    /// The fifth bit of value `i` is bit `i`, in little-endian order.
    pub high: [u8; 4],
    /// As in [`Q4_0`].
    pub nibbles: [u8; 16],
}

/// 32 values of 5 bits: `scale · q + min`.
#[derive(Debug, Clone, Copy, AnyBitPattern)]
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
#[derive(Debug, Clone, Copy, AnyBitPattern)]
#[repr(C)]
pub struct Q8_0 {
    pub scale: [u8; 2],
    pub quanta: [i8; 32],
}

/// 256 values of 4 bits in groups of 32: `scale · scaleₖ · q - min · minₖ`.
#[derive(Debug, Clone, Copy, AnyBitPattern)]
#[repr(C)]
#[allow(non_camel_case_types, reason = "ggml's name")]
pub struct Q4_K {
    pub scale: [u8; 2],
    pub min: [u8; 2],
    /// Scales and minima of the groups, 6 bits each: see [`scale_and_min`].
    pub scales: [u8; 12],
    /// 32 bytes for two groups: the low nibbles are the first group, the high nibbles the second.
    pub nibbles: [u8; 128],
}

/// 256 values of 5 bits in groups of 32: `scale · scaleₖ · q - min · minₖ`.
#[derive(Debug, Clone, Copy, AnyBitPattern)]
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
#[derive(Debug, Clone, Copy, AnyBitPattern)]
#[repr(C)]
#[allow(non_camel_case_types, reason = "ggml's name")]
pub struct Q6_K {
    pub low: [u8; 128],
    pub high: [u8; 64],
    pub scales: [i8; 16],
    pub scale: [u8; 2],
}

/// The 6-bit scale and minimum of group `k` of a [`Q4_K`] or [`Q5_K`]. The first four groups have whole bytes, whose upper two
/// bits belong to the last four.
#[inline(always)]
pub const fn scale_and_min(scales: &[u8; 12], k: usize) -> (u8, u8) {
    if k < 4 {
        (scales[k] & 63, scales[k + 4] & 63)
    } else {
        (scales[k + 4] & 15 | scales[k - 4] >> 6 << 4, scales[k + 4] >> 4 | scales[k] >> 6 << 4)
    }
}

/// A half-precision field.
#[inline(always)]
pub(crate) fn half(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}
