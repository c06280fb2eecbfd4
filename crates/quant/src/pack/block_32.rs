//! Formats with blocks of 32 values, whose scale follows from the largest or from the smallest and the largest value.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "quanta are in the range of the integer"
)]

use super::scale::{first, inverse, largest_magnitude, stored_scale};
use crate::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};

type Values = [f32; 32];
type Quanta = [u8; 32];

#[inline(always)]
pub(super) fn pack_q4_0(values: &Values) -> Result<Q4_0, usize> {
    let (scale, quanta) = around_zero(values, 8.0)?;
    Ok(Q4_0 { scale, nibbles: nibbles(&quanta) })
}

#[inline(always)]
pub(super) fn pack_q4_1(values: &Values) -> Result<Q4_1, usize> {
    let (scale, min, quanta) = from_minimum(values, 15.0)?;
    Ok(Q4_1 { scale, min, nibbles: nibbles(&quanta) })
}

#[inline(always)]
pub(super) fn pack_q5_0(values: &Values) -> Result<Q5_0, usize> {
    let (scale, quanta) = around_zero(values, 16.0)?;
    Ok(Q5_0 { scale, high: fifth_bits(&quanta), nibbles: nibbles(&quanta) })
}

#[inline(always)]
pub(super) fn pack_q5_1(values: &Values) -> Result<Q5_1, usize> {
    let (scale, min, quanta) = from_minimum(values, 31.0)?;
    Ok(Q5_1 { scale, min, high: fifth_bits(&quanta), nibbles: nibbles(&quanta) })
}

/// The largest magnitude is 127 steps. Values are divided by the scale before it is rounded; ties round away from zero.
#[inline(always)]
pub(super) fn pack_q8_0(values: &Values) -> Result<Q8_0, usize> {
    /// The largest value below 0.5. Adding 0.5 itself would round 0.49999997 up.
    const ALMOST_HALF: f32 = 0.5_f32.next_down();
    let largest = largest_magnitude(values)?;
    let scale = largest / 127.0;
    let (stored, inverse) = (stored_scale(scale, values, largest)?, inverse(scale));
    let quanta = values.map(|value| {
        let steps = value * inverse;
        (steps + ALMOST_HALF.copysign(steps)) as i8
    });
    Ok(Q8_0 { scale: stored, quanta })
}

/// The scale and quanta from 0 to `2 · zero - 1`, of which `zero` stands for 0. The value of the largest magnitude
/// becomes quantum 0, so the scale has the opposite sign.
#[inline(always)]
fn around_zero(values: &Values, zero: f32) -> Result<([u8; 2], Quanta), usize> {
    let largest = largest_magnitude(values)?;
    let scale = values[first(values, |value| value.abs() == largest)] / -zero;
    let inverse = inverse(scale);
    let quanta = values.map(|value| (value * inverse + (zero + 0.5)).min(2.0 * zero - 1.0) as u8);
    Ok((stored_scale(scale, values, largest)?, quanta))
}

/// The scale, the minimum and quanta from 0, the smallest value, to `steps`, the largest.
#[inline(always)]
fn from_minimum(values: &Values, steps: f32) -> Result<([u8; 2], [u8; 2], Quanta), usize> {
    let largest = largest_magnitude(values)?;
    // Eight at a time, for vector instructions.
    let (chunks, _) = values.as_chunks::<8>();
    let (mut lows, mut highs) = (chunks[0], chunks[0]);
    for chunk in chunks {
        for ((low, high), &value) in lows.iter_mut().zip(&mut highs).zip(chunk) {
            *low = if value < *low { value } else { *low };
            *high = if value > *high { value } else { *high };
        }
    }
    let low = lows.into_iter().fold(lows[0], f32::min);
    let high = highs.into_iter().fold(highs[0], f32::max);
    let scale = (high - low) / steps;
    let inverse = inverse(scale);
    let quanta = values.map(|value| ((value - low) * inverse + 0.5).min(steps) as u8);
    Ok((stored_scale(scale, values, largest)?, stored_scale(low, values, largest)?, quanta))
}

#[inline(always)]
fn nibbles(quanta: &Quanta) -> [u8; 16] {
    std::array::from_fn(|idx| quanta[idx] & 15 | quanta[idx + 16] << 4)
}

#[inline(always)]
fn fifth_bits(quanta: &Quanta) -> [u8; 4] {
    let bits =
        quanta.iter().enumerate().fold(0, |bits, (idx, quantum)| bits | u32::from(quantum >> 4) << idx);
    bits.to_le_bytes()
}
