//! Formats with blocks of 256 values in groups, whose scales are quantised too.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "quanta are in the range of the integer"
)]

use super::lanes::{Columns, Lanes, columns, quanta, round};
use super::scale::{first, largest_magnitude, stored_scale};
use super::search::{Grid, NEGLIGIBLE, fit_affine, fit_linear};
use crate::{Q4_K, Q5_K, Q6_K, blocks::pack_scales_and_mins, half_float::f16_to_f32};

type Values = [f32; 256];

#[inline(always)]
pub(super) fn pack_q4_k(values: &Values) -> Result<Q4_K, usize> {
    let Groups { scale, min, scales, quanta } =
        affine_groups(values, Grid { largest: 15.0, first: -1.0, n: 20 })?;
    Ok(Q4_K { scale, min, scales, nibbles: nibbles(&quanta) })
}

#[inline(always)]
pub(super) fn pack_q5_k(values: &Values) -> Result<Q5_K, usize> {
    let Groups { scale, min, scales, quanta } =
        affine_groups(values, Grid { largest: 31.0, first: -0.5, n: 15 })?;
    let high = std::array::from_fn(|idx| (0..8).fold(0, |bits, k| bits | (quanta[32 * k + idx] >> 4) << k));
    Ok(Q5_K { scale, min, scales, high, nibbles: nibbles(&quanta) })
}

#[inline(always)]
pub(super) fn pack_q6_k(values: &Values) -> Result<Q6_K, usize> {
    const ZERO: f32 = 32.0;
    let largest = largest_magnitude(values)?;
    let x: Columns<16, 16> = columns(values);
    let fit = fit_linear(&x, ZERO);
    // Sums of huge values overflow.
    if fit.scale.0.iter().any(|scale| !scale.is_finite()) {
        return Err(first(values, |value| value.abs() == largest));
    }
    let extreme = fit
        .scale
        .0
        .into_iter()
        .fold(0.0_f32, |extreme, scale| if scale.abs() > extreme.abs() { scale } else { extreme });
    if extreme.abs() < NEGLIGIBLE {
        return Ok(bytemuck::Zeroable::zeroed());
    }
    let steps_per_unit = -128.0 / extreme;
    let scale = stored_scale(1.0 / steps_per_unit, values, largest)?;
    let scales = fit.scale.map(|scale| round(steps_per_unit * scale).clamp(-128.0, 127.0));
    let steps = Lanes::splat(f16_to_f32(scale)) * scales;
    let quanta = quanta(
        &requantised(&fit.quanta, steps, |idx| (x[idx] / steps).map(|x| round(x).clamp(-ZERO, ZERO - 1.0)))
            .map(|quanta: Lanes<16>| quanta.map(|quantum| quantum + ZERO)),
    );

    let (mut low, mut high) = ([0; 128], [0; 64]);
    for (half, quanta) in quanta.as_chunks::<128>().0.iter().enumerate() {
        for idx in 0..64 {
            low[64 * half + idx] = quanta[idx] & 15 | quanta[64 + idx] << 4;
        }
        for idx in 0..32 {
            high[32 * half + idx] = (0..4).fold(0, |bits, k| bits | quanta[32 * k + idx] >> 4 << (2 * k));
        }
    }
    Ok(Q6_K { low, high, scales: scales.0.map(|scale| scale as i8), scale })
}

/// The fields that [`Q4_K`] and [`Q5_K`] share.
struct Groups {
    scale: [u8; 2],
    min: [u8; 2],
    scales: [u8; 12],
    quanta: [u8; 256],
}

#[inline(always)]
fn affine_groups(values: &Values, grid: Grid) -> Result<Groups, usize> {
    let largest = largest_magnitude(values)?;
    let x: Columns<8, 32> = columns(values);
    let sum_squares = x.iter().fold(Lanes::splat(0.0), |sum, &x| sum + x * x);
    let root_mean_square = sum_squares.map(|sum| (sum / 32.0).sqrt());
    let weights = x.map(|x| root_mean_square + x.map(f32::abs));
    let fit = fit_affine(&x, &weights, grid);

    let (scale, scales) = six_bits(fit.scale);
    let (min, mins) = six_bits(fit.offset);
    let (scale, min) = (stored_scale(scale, values, largest)?, stored_scale(min, values, largest)?);
    let steps = Lanes::splat(f16_to_f32(scale)) * scales;
    let offsets = Lanes::splat(f16_to_f32(min)) * mins;
    let requantised = requantised(&fit.quanta, steps, |idx| {
        ((x[idx] + offsets) / steps).map(|x| round(x).clamp(0.0, grid.largest))
    });
    let scales = pack_scales_and_mins(&scales.0.map(|scale| scale as u8), &mins.0.map(|min| min as u8));
    Ok(Groups { scale, min, scales, quanta: quanta(&requantised) })
}

/// A common scale of `values`, and the values in units of it, from 0 to 63.
#[inline(always)]
fn six_bits<const G: usize>(values: Lanes<G>) -> (f32, Lanes<G>) {
    let largest =
        values.0.into_iter().fold(0.0_f32, |largest, value| if value > largest { value } else { largest });
    let steps_per_unit = if largest > 0.0 { 63.0 / largest } else { 0.0 };
    (largest / 63.0, values.map(|value| round(steps_per_unit * value).clamp(0.0, 63.0)))
}

/// Quanta for scales that are quantised. Groups with a scale of 0 keep the quanta of the fit.
#[inline(always)]
fn requantised<const G: usize, const N: usize>(
    fitted: &Columns<G, N>,
    steps: Lanes<G>,
    quantum: impl Fn(usize) -> Lanes<G>,
) -> Columns<G, N> {
    let is_zero = steps.test(steps, |step, _| step == 0.0);
    std::array::from_fn(|idx| quantum(idx).replace(is_zero, fitted[idx]))
}

/// 32 bytes for two groups of 32: the low nibbles are the first group.
#[inline(always)]
fn nibbles(quanta: &[u8; 256]) -> [u8; 128] {
    std::array::from_fn(|idx| {
        let first = idx / 32 * 64 + idx % 32;
        quanta[first] & 15 | quanta[first + 32] << 4
    })
}
