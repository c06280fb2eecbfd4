//! The summary of a benchmark: medians, ratios, and fractions of the machine's peak.

use std::collections::BTreeMap;

use serde::Serialize;

use super::case::Case;
use super::side::{Measurement, Side, Speed};

/// One run of every program.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Round {
    /// Peak operations per second. On a CPU it is measured in f32 before the round. On a GPU it is given, or the higher
    /// bf16 measurement of the programs, if there is one.
    pub(crate) peak_flops_per_second: Option<f64>,
    /// Peak memory bandwidth, for decoding only.
    pub(crate) peak_bytes_per_second: Option<f64>,
    pub(crate) sides: BTreeMap<Side, Measurement>,
    /// CPU share of other processes, from 0 to 1, if the system reports it.
    pub(crate) others_share: Option<f64>,
}

/// Medians over the rounds, and ratios.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) sides: BTreeMap<Side, SideSummary>,
    /// `None` if only Kindling was measured.
    pub(crate) comparison: Option<Comparison>,
    /// Speed of Kindling in bf16 divided by its speed in f32, for bf16 only.
    pub(crate) speed_ratio_to_f32: Option<f64>,
}

/// The summary of one program.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct SideSummary {
    pub(crate) milliseconds: f64,
    pub(crate) tokens_per_second: f64,
    /// The maximum over the rounds: later rounds use caches of compiled kernels.
    pub(crate) first_milliseconds: f64,
    /// The maximum over the rounds.
    pub(crate) peak_memory_bytes: Option<u64>,
    pub(crate) flops_per_second: f64,
    /// Relative to the peak of the same round. On a GPU this is the model FLOP utilisation (MFU).
    pub(crate) fraction_of_peak_flops: Option<f64>,
    /// Relative to the peak bandwidth of the same round, for decoding only.
    pub(crate) fraction_of_peak_bandwidth: Option<f64>,
}

/// Kindling compared with the best of the other programs.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Comparison {
    /// The other program with the lowest median time.
    pub(crate) fastest: Side,
    /// Its time divided by Kindling's: above 1, Kindling is faster.
    pub(crate) speed_ratio: f64,
    /// The lowest and the highest ratio of a single round, for the same program.
    pub(crate) speed_ratio_range: [f64; 2],
    /// The other program with the lowest peak memory.
    pub(crate) smallest: Option<Side>,
    /// Kindling's peak memory divided by its: below 1, Kindling needs less.
    pub(crate) memory_ratio: Option<f64>,
}

/// The largest CPU share of other processes without a warning.
const OTHERS_SHARE_MAX: f64 = 0.05;

impl Round {
    /// Whether other processes used so much of the CPU that the results are unreliable.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.others_share.is_some_and(|share| share > OTHERS_SHARE_MAX)
    }
}

impl Summary {
    /// `rounds` has at least one element, and all have the same programs.
    pub(crate) fn of(rounds: &[Round], case: &Case) -> Self {
        let sides: BTreeMap<_, _> =
            (rounds[0].sides.keys()).map(|&side| (side, SideSummary::of(rounds, side, case))).collect();
        let comparison = Comparison::of(rounds, &sides);
        let milliseconds = |side| Some(sides.get(&side)?.milliseconds);
        let f32_and_bf16 = milliseconds(Side::KindlingF32).zip(milliseconds(Side::Kindling));
        let speed_ratio_to_f32 = f32_and_bf16.map(|(f32, bf16)| f32 / bf16);
        Self { sides, comparison, speed_ratio_to_f32 }
    }
}

impl SideSummary {
    fn of(rounds: &[Round], side: Side, case: &Case) -> Self {
        let speeds = || rounds.iter().map(|round| &round.sides[&side].speed);
        let milliseconds = median(speeds().map(|speed| speed.milliseconds).collect());
        // The rate of `work` in each round as a fraction of that round's peak.
        let fraction = |work: f64, peak: &dyn Fn(&Round) -> Option<f64>| {
            let of_round =
                |(round, speed): (&Round, &Speed)| Some(work / (1e-3 * speed.milliseconds) / peak(round)?);
            rounds.iter().zip(speeds()).map(of_round).collect::<Option<Vec<f64>>>().map(median)
        };
        let flops = case.flops();
        Self {
            milliseconds,
            tokens_per_second: case.tokens() as f64 / (1e-3 * milliseconds),
            first_milliseconds: speeds().map(|speed| speed.first_milliseconds).fold(0.0, f64::max),
            peak_memory_bytes: rounds.iter().filter_map(|round| round.sides[&side].peak_memory_bytes).max(),
            flops_per_second: flops / (1e-3 * milliseconds),
            fraction_of_peak_flops: fraction(flops, &|round| round.peak_flops_per_second),
            fraction_of_peak_bandwidth: fraction(case.sizes().weight_bytes(), &|round| {
                round.peak_bytes_per_second
            }),
        }
    }
}

impl Comparison {
    fn of(rounds: &[Round], sides: &BTreeMap<Side, SideSummary>) -> Option<Self> {
        let ours = sides.get(&Side::Kindling)?;
        let ours_too = [Side::Kindling, Side::KindlingF32];
        let others = || sides.iter().filter(|(side, _)| !ours_too.contains(side));
        let (&fastest, theirs) = others().min_by(|a, b| a.1.milliseconds.total_cmp(&b.1.milliseconds))?;
        let smallest = others().filter_map(|(&side, of)| Some((of.peak_memory_bytes?, side))).min();
        let by_round: Vec<f64> = rounds
            .iter()
            .map(|round| &round.sides)
            .map(|sides| sides[&fastest].speed.milliseconds / sides[&Side::Kindling].speed.milliseconds)
            .collect();
        Some(Self {
            fastest,
            speed_ratio: theirs.milliseconds / ours.milliseconds,
            speed_ratio_range: [
                by_round.iter().copied().fold(f64::INFINITY, f64::min),
                by_round.iter().copied().fold(0.0, f64::max),
            ],
            smallest: smallest.map(|(_, side)| side),
            memory_ratio: smallest.and_then(|(bytes, _)| Some(ours.peak_memory_bytes? as f64 / bytes as f64)),
        })
    }
}

/// The median; of an even number of values, the mean of the middle two.
///
/// # Panics
///
/// If there are no values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::case::{Config, Precision, Work};
    use super::*;

    pub(crate) fn round(sides: &[(Side, f64, u64)], others_share: f64) -> Round {
        let measurement = |milliseconds, bytes| Measurement {
            speed: Speed {
                tokens_per_second: 768e3 / milliseconds,
                tokens: 768,
                milliseconds,
                milliseconds_range: [milliseconds; 2],
                measurements: 1,
                first_milliseconds: 2.0 * milliseconds,
            },
            peak_memory_bytes: Some(bytes),
            device_peak_flops_per_second: None,
        };
        Round {
            peak_flops_per_second: Some(1e11),
            peak_bytes_per_second: None,
            sides: sides.iter().map(|&(side, time, bytes)| (side, measurement(time, bytes))).collect(),
            others_share: Some(others_share),
        }
    }

    fn case() -> Case {
        Case::new(Work::Train, Config::S, Precision::F32)
    }

    #[test]
    fn the_median_is_the_middle_value_or_the_mean_of_two() {
        assert_eq!(median(vec![9.0, 1.0, 4.0]), 4.0);
        assert_eq!(median(vec![9.0, 1.0, 4.0, 6.0]), 5.0);
        assert_eq!(median(vec![7.0]), 7.0);
    }

    #[test]
    fn kindling_is_compared_with_the_best_of_the_others() {
        use Side::{Compile, Eager, Kindling};
        let rounds = [
            round(&[(Kindling, 40.0, 300), (Eager, 60.0, 500), (Compile, 50.0, 700)], 0.0),
            round(&[(Kindling, 50.0, 350), (Eager, 66.0, 500), (Compile, 55.0, 700)], 0.0),
            round(&[(Kindling, 45.0, 250), (Eager, 30.0, 500), (Compile, 54.0, 700)], 0.0),
        ];
        let comparison = Summary::of(&rounds, &case()).comparison.unwrap();
        assert_eq!(comparison.fastest, Compile);
        assert_eq!(comparison.speed_ratio, 54.0 / 45.0);
        assert_eq!(comparison.speed_ratio_range, [55.0 / 50.0, 50.0 / 40.0]);
        assert_eq!(comparison.smallest, Some(Eager));
        assert_eq!(comparison.memory_ratio, Some(350.0 / 500.0));
    }

    #[test]
    fn kindling_in_f32_does_not_count_as_another_program() {
        let sides = [(Side::Kindling, 40.0, 300), (Side::KindlingF32, 50.0, 300), (Side::Eager, 60.0, 500)];
        let summary = Summary::of(&[round(&sides, 0.0)], &case());
        assert_eq!(summary.comparison.unwrap().fastest, Side::Eager);
        assert_eq!(summary.speed_ratio_to_f32, Some(50.0 / 40.0));
        assert_eq!(Summary::of(&[round(&sides[2..], 0.0)], &case()).speed_ratio_to_f32, None);
    }

    #[test]
    fn fractions_are_relative_to_the_peak_of_their_round() {
        let mut rounds =
            vec![round(&[(Side::Kindling, 100.0, 1)], 0.0), round(&[(Side::Kindling, 50.0, 1)], 0.0)];
        rounds[1].peak_flops_per_second = Some(2e11);
        let summary = Summary::of(&rounds, &case());
        let ours = &summary.sides[&Side::Kindling];
        let expected = case().flops() / 0.1 / 1e11;
        assert!((ours.fraction_of_peak_flops.unwrap() / expected - 1.0).abs() < 1e-12);
        assert_eq!(ours.fraction_of_peak_bandwidth, None);
        assert_eq!(ours.milliseconds, 75.0);
        assert_eq!(ours.first_milliseconds, 200.0);
        assert_eq!(summary.comparison, None);

        rounds[0].peak_flops_per_second = None;
        let summary = Summary::of(&rounds, &case());
        assert_eq!(summary.sides[&Side::Kindling].fraction_of_peak_flops, None, "a round without a peak");
    }
}
