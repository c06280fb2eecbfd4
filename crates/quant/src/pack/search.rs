//! Searches of the scale of a group that gives the least squared error.
//!
//! A candidate quantises with a slightly different step. The best scale for its quanta is a least-squares fit, whose
//! error decides.

use super::lanes::{Columns, Lanes, round};

/// The grid of [`fit_affine`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    /// The largest quantum.
    pub(super) largest: f32,
    /// Candidates have `largest + first + 0.1 · i` steps from the smallest to the largest value, for i from 0 to `n`.
    pub(super) first: f32,
    pub(super) n: u8,
}

/// A fit `scale · quantum - offset` of each group.
pub(super) struct Affine<const G: usize, const N: usize> {
    pub(super) scale: Lanes<G>,
    /// Not negative.
    pub(super) offset: Lanes<G>,
    pub(super) quanta: Columns<G, N>,
}

/// Fits `scale · quantum - offset` with weighted squared errors, like ggml's `make_qkx2_quants`.
///
/// Groups of equal values that are not positive have a scale of 0.
#[inline(always)]
pub(super) fn fit_affine<const G: usize, const N: usize>(
    values: &Columns<G, N>,
    weights: &Columns<G, N>,
    grid: Grid,
) -> Affine<G, N> {
    let zero = Lanes::splat(0.0);
    let (mut low, mut high) = (values[0], values[0]);
    let (mut sum_w, mut sum_x) = (zero, zero);
    for (&x, &w) in values.iter().zip(weights) {
        low = low.zip(x, |low, x| if x < low { x } else { low });
        high = high.zip(x, |high, x| if x > high { x } else { high });
        sum_w = sum_w + w;
        sum_x = sum_x + w * x;
    }
    low = low.map(|low| if low > 0.0 { 0.0 } else { low });
    let is_flat = high.test(low, |high, low| high == low);
    let quantizer = |steps, min: Lanes<G>| {
        let range = (high - min).replace(is_flat, Lanes::splat(1.0));
        Quantizer { steps_per_unit: Lanes::splat(steps) / range, min, largest: grid.largest }
    };

    let mut best = quantizer(grid.largest, low);
    let mut scale = Lanes::splat(1.0) / best.steps_per_unit;
    let mut min = low;
    let mut least_error = zero;
    for (&x, &w) in values.iter().zip(weights) {
        let difference = scale * best.quantum(x) + min - x;
        least_error = least_error + w * (difference * difference);
    }

    for candidate in 0..=grid.n {
        // From the minimum of the best fit so far.
        let candidate = quantizer(grid.first + 0.1 * f32::from(candidate) + grid.largest, min);
        let mut quanta = [zero; N];
        let (mut sum_l, mut sum_l2, mut sum_xl) = (zero, zero, zero);
        for ((l, &x), &w) in quanta.iter_mut().zip(values).zip(weights) {
            *l = candidate.quantum(x);
            let wl = w * *l;
            sum_l = sum_l + wl;
            sum_l2 = sum_l2 + wl * *l;
            sum_xl = sum_xl + wl * x;
        }
        let determinant = sum_w * sum_l2 - sum_l * sum_l;
        let free_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
        let is_positive = free_min.test(zero, |min, zero| min > zero);
        let fitted_min = free_min.replace(is_positive, zero);
        let fitted_scale =
            ((sum_w * sum_xl - sum_x * sum_l) / determinant).replace(is_positive, sum_xl / sum_l2);
        let mut error = zero;
        for ((&l, &x), &w) in quanta.iter().zip(values).zip(weights) {
            let difference = fitted_scale * l + fitted_min - x;
            error = error + w * (difference * difference);
        }
        // A determinant of 0 gives NaN or infinity.
        let error = error.replace(determinant.test(zero, |d, zero| d <= zero), Lanes::splat(f32::INFINITY));
        let is_better = error.test(least_error, |error, least| error < least);
        least_error = least_error.replace(is_better, error);
        scale = scale.replace(is_better, fitted_scale);
        min = min.replace(is_better, fitted_min);
        best.steps_per_unit = best.steps_per_unit.replace(is_better, candidate.steps_per_unit);
        best.min = best.min.replace(is_better, candidate.min);
    }

    Affine {
        scale: scale.replace(is_flat, zero),
        offset: zero - min,
        quanta: values.map(|x| best.quantum(x)),
    }
}

/// Quantises a value of each group to integers from 0 to `largest`.
struct Quantizer<const G: usize> {
    steps_per_unit: Lanes<G>,
    min: Lanes<G>,
    largest: f32,
}

impl<const G: usize> Quantizer<G> {
    #[inline(always)]
    fn quantum(&self, x: Lanes<G>) -> Lanes<G> {
        (self.steps_per_unit * (x - self.min)).map(|steps| round(steps).clamp(0.0, self.largest))
    }
}

/// A fit `scale · quantum` of each group.
pub(super) struct Linear<const G: usize, const N: usize> {
    pub(super) scale: Lanes<G>,
    /// From `-zero` to `zero - 1`.
    pub(super) quanta: Columns<G, N>,
}

/// The magnitude below which all values of a group are taken as 0, as in ggml.
pub(super) const NEGLIGIBLE: f32 = 1e-15;

/// Fits `scale · quantum`, where the value of the largest magnitude becomes about `-zero`. Squared errors are weighted
/// by the squared values, like in ggml's `make_qx_quants`.
///
/// A negligible group has a scale of 0 and quanta of `-zero`.
#[inline(always)]
pub(super) fn fit_linear<const G: usize, const N: usize>(values: &Columns<G, N>, zero: f32) -> Linear<G, N> {
    /// Candidates on each side of `zero` steps, 0.1 apart.
    const N_CANDIDATES: i8 = 9;
    let none = Lanes::splat(0.0);
    let mut extreme = none;
    for &x in values {
        extreme = extreme.zip(x, |extreme, x| if x.abs() > extreme.abs() { x } else { extreme });
    }
    let is_negligible = extreme.test(none, |extreme, _| extreme.abs() < NEGLIGIBLE);
    let extreme = extreme.replace(is_negligible, Lanes::splat(1.0));
    let quantum = |x: Lanes<G>, steps_per_unit: Lanes<G>| {
        (steps_per_unit * x).map(|steps| round(steps).clamp(-zero, zero - 1.0))
    };
    let sums = |steps_per_unit: Lanes<G>| {
        let (mut sum_xl, mut sum_l2) = (none, none);
        for &x in values {
            let (l, w) = (quantum(x, steps_per_unit), x * x);
            sum_xl = sum_xl + w * x * l;
            sum_l2 = sum_l2 + w * l * l;
        }
        (sum_xl, sum_l2)
    };

    let mut steps_per_unit = Lanes::splat(-zero) / extreme;
    let (sum_xl, sum_l2) = sums(steps_per_unit);
    let mut scale = (sum_xl / sum_l2).replace(sum_l2.test(none, |sum, none| sum == none), none);
    let mut best = scale * sum_xl;
    for candidate in (-N_CANDIDATES..=N_CANDIDATES).filter(|&candidate| candidate != 0) {
        let candidate = Lanes::splat(-(zero + 0.1 * f32::from(candidate))) / extreme;
        let (sum_xl, sum_l2) = sums(candidate);
        let exists = sum_l2.test(none, |sum, none| sum > none);
        let is_better = (sum_xl * sum_xl).test(best * sum_l2, |explained, best| explained > best);
        let is_better = std::array::from_fn(|group| exists[group] & is_better[group]);
        let fitted = sum_xl / sum_l2;
        scale = scale.replace(is_better, fitted);
        best = best.replace(is_better, fitted * sum_xl);
        steps_per_unit = steps_per_unit.replace(is_better, candidate);
    }

    Linear {
        scale: scale.replace(is_negligible, none),
        quanta: values.map(|x| quantum(x, steps_per_unit).replace(is_negligible, Lanes::splat(-zero))),
    }
}
