//! The range and the tick labels of an axis.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::{Scale, number};

/// Values beyond this can't be drawn: the width of their range may overflow.
const LARGEST: f64 = 1e300;

/// An axis. The position of a value on it is the value itself, or its decimal logarithm.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    scale: Scale,
    pub(crate) range: Range<f64>,
    pub(crate) ticks: Vec<Tick>,
}

/// A tick of an axis with its label.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tick {
    /// Position on the axis.
    pub(crate) at: f64,
    pub(crate) label: String,
}

/// The position of a value on an axis; `None` if it can't be drawn.
pub(crate) fn place(scale: Scale, value: f64) -> Option<f64> {
    let is_usable = value.abs() <= LARGEST; // False for NaN, too.
    match scale {
        Scale::Linear => is_usable.then_some(value),
        Scale::Log => (is_usable && value > 0.0).then(|| value.log10()),
    }
}

impl Axis {
    /// The horizontal axis, from the lowest value to the highest. It starts at zero if the lowest value is near zero.
    pub(crate) fn across(values: impl Iterator<Item = f64>, scale: Scale, n_ticks: usize) -> Self {
        let Some(mut range) = extent(values, scale) else { return Self::empty() };
        if scale == Scale::Linear && range.start > 0.0 && range.start <= 0.1 * range.end {
            range.start = 0.0;
        }
        Self { scale, ticks: ticks(scale, &range, n_ticks), range }
    }

    /// The vertical axis, with a margin above and below the values.
    pub(crate) fn up(values: impl Iterator<Item = f64>, scale: Scale, n_ticks: usize) -> Self {
        const MARGIN: f64 = 0.05;
        let Some(tight) = extent(values, scale) else { return Self::empty() };
        let margin = MARGIN * (tight.end - tight.start);
        let mut range = tight.start - margin..tight.end + margin;
        if scale == Scale::Linear && tight.start >= 0.0 {
            range.start = range.start.max(0.0);
        }
        Self { scale, ticks: ticks(scale, &range, n_ticks), range }
    }

    /// The position of a value on the axis; `None` if it can't be drawn.
    pub(crate) fn place(&self, value: f64) -> Option<f64> {
        place(self.scale, value)
    }

    /// The axis of a chart without values.
    fn empty() -> Self {
        Self { scale: Scale::Linear, range: 0.0..1.0, ticks: vec![] }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, &at: &f64, (start, end): (i32, i32)) -> i32 {
        let part = (at - self.range.start) / (self.range.end - self.range.start);
        #[expect(clippy::cast_possible_truncation, reason = "between two numbers of that type")]
        let length = (part * f64::from(end - start)).round() as i32;
        start + length
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // plotters asks twice: for bold grid lines, and for light ones between them.
        let is_light = hint.weight().allow_light_points();
        if is_light { vec![] } else { self.ticks.iter().map(|tick| tick.at).collect() }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, at: &f64) -> String {
        let tick = self.ticks.iter().find(|tick| tick.at == *at);
        tick.map_or_else(String::new, |tick| tick.label.clone())
    }
}

/// The range of the values' positions, widened if they are equal; `None` without values.
fn extent(values: impl Iterator<Item = f64>, scale: Scale) -> Option<Range<f64>> {
    let places = values.filter_map(|value| place(scale, value));
    let (low, high) =
        places.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), at| (low.min(at), high.max(at)));
    if low > high {
        return None;
    }
    // Values that differ only by rounding count as equal.
    let is_wide = high - low > 1e-9 * high.abs().max(low.abs()) && high - low > 1e-290;
    let half = match scale {
        _ if is_wide => 0.0,
        Scale::Log => 0.5,
        Scale::Linear if high.abs() < 1e-280 => 1.0,
        Scale::Linear => 0.1 * high.abs(),
    };
    Some(low - half..high + half)
}

/// At most `n_ticks` ticks within a range of positions.
fn ticks(scale: Scale, range: &Range<f64>, n_ticks: usize) -> Vec<Tick> {
    match scale {
        Scale::Linear => linear_ticks(range, n_ticks),
        Scale::Log => log_ticks(range, n_ticks),
    }
}

/// At most `n_ticks` multiples of 1, 2 or 5 times a power of ten.
fn linear_ticks(range: &Range<f64>, n_ticks: usize) -> Vec<Tick> {
    let Some((step, values)) = multiples(range, n_ticks) else { return vec![] };
    let labels = number::evenly_spaced(&values, step);
    values.into_iter().zip(labels).map(|(at, label)| Tick { at, label }).collect()
}

/// The smallest round step with at most `n_ticks` multiples in the range, and these multiples.
fn multiples(range: &Range<f64>, n_ticks: usize) -> Option<(f64, Vec<f64>)> {
    let first_power = ((range.end - range.start) / n_ticks.max(1) as f64).log10().floor();
    let steps = (0..2).flat_map(|i| [1.0, 2.0, 5.0].map(|digit| (digit, first_power + f64::from(i))));
    steps.into_iter().find_map(|(digit, power): (f64, f64)| {
        // Divide for fractional steps: 3 / 10 equals 0.3, and 3 · 0.1 does not.
        let multiple = |i: f64| {
            if power < 0.0 { i * digit / 10f64.powf(-power) } else { i * digit * 10f64.powf(power) }
        };
        let step = multiple(1.0);
        let (first, last) = ((range.start / step).ceil(), (range.end / step).floor());
        (last - first < n_ticks as f64).then(|| {
            let indices = std::iter::successors(Some(first), |i| Some(i + 1.0)).take_while(|&i| i <= last);
            // Adding zero turns -0 into 0.
            (step, indices.map(|i| multiple(i) + 0.0).collect())
        })
    })
}

/// At most `n_ticks` powers of ten, with multiples between them if they fit.
fn log_ticks(range: &Range<f64>, n_ticks: usize) -> Vec<Tick> {
    const FEW: usize = 4;
    let digits: [&[f64]; 4] =
        [&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], &[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]];
    let every = digits.iter().map(|digits| (*digits, 1));
    let candidates = every.chain((2..).map(|nth| (digits[3], nth)));
    let ticks = candidates
        .map(|(digits, nth)| decades(range, nth, digits))
        .find(|ticks| ticks.len() <= n_ticks.max(1))
        .unwrap_or_default();
    let is_narrow = range.end - range.start < 1.0;
    if !is_narrow || ticks.len() >= FEW {
        return ticks;
    }
    // Within a decade, evenly spaced round numbers are more informative.
    let even = linear_ticks(&(10f64.powf(range.start)..10f64.powf(range.end)), n_ticks);
    even.into_iter().map(|tick| Tick { at: tick.at.log10(), ..tick }).collect()
}

/// Every `nth` power of ten within the range, times each of the digits.
fn decades(range: &Range<f64>, nth: usize, digits: &[f64]) -> Vec<Tick> {
    let mut ticks = vec![];
    let nth = nth as f64;
    let mut power = (range.start / nth).floor() * nth;
    while power <= range.end {
        for digit in digits {
            let at = power + digit.log10();
            if range.contains(&at) {
                ticks.push(Tick { at, label: number::round(digit * 10f64.powf(power)) });
            }
        }
        power += nth;
    }
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> String {
        axis.ticks.iter().map(|tick| tick.label.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn step_ticks_are_round_numbers() {
        let steps = |last: f64| labels(&Axis::across([1.0, last].into_iter(), Scale::Linear, 6));
        assert_eq!(steps(2000.0), "0 500 1000 1500 2000");
        assert_eq!(steps(100_000.0), "0 20k 40k 60k 80k 100k");
        assert_eq!(steps(1_200_000.0), "0 500k 1M");
        assert_eq!(steps(7.0), "2 4 6");
    }

    #[test]
    fn an_axis_starts_at_zero_only_if_that_is_near() {
        assert_eq!(Axis::across([10.0, 2000.0].into_iter(), Scale::Linear, 5).range, 0.0..2000.0);
        assert_eq!(Axis::across([1500.0, 2000.0].into_iter(), Scale::Linear, 5).range, 1500.0..2000.0);
    }

    #[test]
    fn the_vertical_axis_has_margins_but_does_not_extend_below_zero() {
        let axis = Axis::up([1.5, 4.5].into_iter(), Scale::Linear, 5);
        assert_eq!(labels(&axis), "2 3 4");
        assert_eq!(axis.range, 1.35..4.65);
        assert_eq!(Axis::up([0.1, 4.5].into_iter(), Scale::Linear, 5).range.start, 0.0);
    }

    #[test]
    fn small_values_are_labelled_with_exponents() {
        assert_eq!(
            labels(&Axis::up([0.0, 1e-3].into_iter(), Scale::Linear, 6)),
            "0 2e-4 4e-4 6e-4 8e-4 1e-3"
        );
    }

    #[test]
    fn logarithmic_ticks_are_as_dense_as_fits() {
        let ticks = |low: f64, high: f64| labels(&Axis::up([low, high].into_iter(), Scale::Log, 8));
        assert_eq!(ticks(1e-5, 1e-1), "1e-5 1e-4 1e-3 0.01 0.1");
        assert_eq!(ticks(0.1, 20.0), "0.1 0.2 0.5 1 2 5 10 20");
        assert_eq!(ticks(1.7, 4.3), "2.0 2.5 3.0 3.5 4.0 4.5");
        assert_eq!(ticks(1.50, 1.55), "1.50 1.51 1.52 1.53 1.54 1.55");
        assert_eq!(ticks(1e-20, 1e20), "1e-18 1e-12 1e-6 1 1M 1T 1e18");
    }

    #[test]
    fn values_that_cannot_be_drawn_are_ignored() {
        let strange = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, 2.0, 4.0];
        assert_eq!(Axis::across(strange.into_iter(), Scale::Linear, 5).range, 2.0..4.0);
        assert_eq!(place(Scale::Log, 0.0), None);
        assert_eq!(place(Scale::Log, 100.0), Some(2.0));
        assert_eq!(Axis::up([f64::NAN].into_iter(), Scale::Log, 5), Axis::empty());
    }

    #[test]
    fn equal_values_have_an_axis_with_a_range() {
        for v in [0.0, 1.5, -1e-5, 1e300, 5e-324, f64::MIN_POSITIVE] {
            for scale in [Scale::Linear, Scale::Log] {
                if place(scale, v).is_some() {
                    let axis = Axis::up([v, v].into_iter(), scale, 5);
                    assert!(axis.range.start < axis.range.end, "{v} {axis:?}");
                    assert!((1..=5).contains(&axis.ticks.len()), "{v} {axis:?}");
                }
            }
        }
    }
}
