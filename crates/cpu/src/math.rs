//! Branch-free elementary functions, so that loops over them are vectorised.

#![expect(clippy::excessive_precision, reason = "coefficients as published, rounded by the compiler")]

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

/// The range of `exp`: below it results are subnormal, above it the power of two overflows the exponent.
const EXP_RANGE: (f32, f32) = (-87.336_54, 88.376_26);

/// 1.5 · 2²³: added to a small value, it leaves the nearest integer in the lowest bits.
const ROUND: f32 = 12_582_912.0;

/// ln 2 as the sum of two constants, the first with few significant bits.
const LN_2: (f32, f32) = (0.693_359_375, -2.121_944_4e-4);

/// eˣ to within 2 ulp; a result that would underflow is the smallest normal f32.
///
/// Computed as 2ⁿ · eʳ with |r| ≤ ln 2 / 2, and eʳ by the polynomial of Cephes' `expf`.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = x.clamp(EXP_RANGE.0, EXP_RANGE.1);
    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN_2.0) - n * LN_2.1;
    let mut p = 1.987_569_15e-4;
    p = p * r + 1.398_199_95e-3;
    p = p * r + 8.333_451_9e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_55e-1;
    p = p * r + 5.000_000_1e-1;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    (p * r * r + r + 1.0) * power
}

/// erf(x) to within a few ulp, by the rational approximation of Eigen's `erf` on [-4, 4].
#[inline(always)]
fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let x2 = x * x;
    let mut p = -2.726_142_258_013_06e-10;
    p = p * x2 + 2.770_681_424_959_02e-8;
    p = p * x2 - 2.101_024_020_825_08e-6;
    p = p * x2 - 5.692_506_394_623_46e-5;
    p = p * x2 - 7.349_906_303_268_55e-4;
    p = p * x2 - 2.954_599_808_540_25e-3;
    p = p * x2 - 1.609_603_332_624_15e-2;
    let mut q = -1.456_607_184_649_96e-5;
    q = q * x2 - 2.133_740_552_789_05e-4;
    q = q * x2 - 1.682_826_974_380_03e-3;
    q = q * x2 - 7.373_329_167_204_68e-3;
    q = q * x2 - 1.426_473_905_141_89e-2;
    x * p / q
}

/// √(2/π), and the factor of the cube in the tanh form of GELU.
const TANH_FORM: (f32, f32) = (0.797_884_56, 0.044_715);

/// x · Φ(x).
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    x * normal_cdf(x)
}

/// [`gelu`] and its derivative, Φ(x) + x · φ(x).
#[inline(always)]
pub(crate) fn gelu_and_derivative(x: f32) -> (f32, f32) {
    /// 1 / √(2π).
    const DENSITY_AT_ZERO: f32 = 0.398_942_28;
    let cdf = normal_cdf(x);
    // Beyond this the density is zero, and the square would overflow.
    let near = x.clamp(-13.0, 13.0);
    (x * cdf, cdf + near * DENSITY_AT_ZERO * exp(-0.5 * near * near))
}

/// Φ(x), the cumulative distribution function of the standard normal.
#[inline(always)]
fn normal_cdf(x: f32) -> f32 {
    // Beyond this the approximation stays 1 ulp short of one.
    let cdf = if x < -5.65 { 0.0 } else { 0.5 + 0.5 * erf(x * FRAC_1_SQRT_2) };
    if x > 5.65 { 1.0 } else { cdf }
}

/// g · σ(g), and its derivative.
#[inline(always)]
pub(crate) fn silu_and_derivative(g: f32) -> (f32, f32) {
    let sigmoid = 1.0 / (1.0 + exp(-g));
    (g * sigmoid, sigmoid * (1.0 + g * (1.0 - sigmoid)))
}

/// The tanh form of GELU, ½ x (1 + tanh u) = x · g with g = 1 / (1 + e⁻²ᵘ) and u = √(2/π) (x + 0.044715 x³). Training
/// computes the same bits.
#[inline(always)]
pub(crate) fn gelu_tanh(x: f32) -> f32 {
    gelu_tanh_and_derivative(x).0
}

/// [`gelu_tanh`] and its derivative, g + 2u' x · g (1 - g).
#[inline(always)]
pub(crate) fn gelu_tanh_and_derivative(x: f32) -> (f32, f32) {
    // Beyond this g is 0 or 1, and u' would overflow.
    let near = x.clamp(-20.0, 20.0);
    let e = exp(-2.0 * TANH_FORM.0 * (near + TANH_FORM.1 * near * near * near));
    let gate = 1.0 / (1.0 + e);
    let derivative = 2.0 * TANH_FORM.0 * (1.0 + 3.0 * TANH_FORM.1 * near * near);
    (x.max(-20.0) * gate, gate + near * derivative * ((e * gate) * gate))
}

/// The sum of `term` over a slice, in sixteen partial sums.
#[inline(always)]
pub(crate) fn sum(x: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<16>();
    let mut sums = [0.0; 16];
    for chunk in chunks {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += term(x);
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|&x| term(x)).sum::<f32>()
}

/// The dot product of two slices, in sixteen partial sums.
#[inline(always)]
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    sum_pairs(x, y, |x, y| x * y)
}

/// The sum of `term` over the pairs of two slices, in sixteen partial sums.
#[inline(always)]
pub(crate) fn sum_pairs(x: &[f32], y: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<16>(), y.as_chunks::<16>());
    let mut sums = [0.0; 16];
    for (x, y) in x.iter().zip(y) {
        for ((sum, &x), &y) in sums.iter_mut().zip(x).zip(y) {
            *sum += term(x, y);
        }
    }
    sums.iter().sum::<f32>() + x_rest.iter().zip(y_rest).map(|(&x, &y)| term(x, y)).sum::<f32>()
}

/// The maximum of a slice; negative infinity if it is empty.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let (chunks, rest) = x.as_chunks::<16>();
    let mut largest = [f32::NEG_INFINITY; 16];
    for chunk in chunks {
        for (largest, &x) in largest.iter_mut().zip(chunk) {
            *largest = if x > *largest { x } else { *largest };
        }
    }
    largest.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}
