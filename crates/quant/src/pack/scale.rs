//! Scales of blocks, and the values that they can't represent.

use half::f16;

/// The largest magnitude of a block. The error is the index of a NaN or infinity.
#[inline(always)]
pub(super) fn largest_magnitude<const N: usize>(values: &[f32; N]) -> Result<f32, usize> {
    // The bits of positive values are in the order of the values, and integers have a vector instruction for the
    // maximum.
    let largest = values.iter().fold(0, |largest, value| value.abs().to_bits().max(largest));
    let largest = f32::from_bits(largest);
    if largest.is_finite() { Ok(largest) } else { Err(first(values, |value| !value.is_finite())) }
}

/// A scale or minimum in half precision. If it becomes infinite or is NaN, the error is the index of the value with the
/// largest magnitude.
#[inline(always)]
pub(super) fn stored_scale<const N: usize>(
    scale: f32,
    values: &[f32; N],
    largest: f32,
) -> Result<[u8; 2], usize> {
    let half = f16::from_f32(scale);
    if half.is_finite() { Ok(half.to_le_bytes()) } else { Err(first(values, |value| value.abs() == largest)) }
}

/// The index of the first value with a property, which one of them has.
#[inline(always)]
pub(super) fn first<const N: usize>(values: &[f32; N], has_property: impl Fn(f32) -> bool) -> usize {
    values.iter().position(|&value| has_property(value)).unwrap_or_default()
}

/// The reciprocal, but 0 for 0.
#[inline(always)]
pub(super) fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}
