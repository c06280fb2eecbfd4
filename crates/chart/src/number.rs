//! Formats numbers for charts: 0.5, 1500, 20k, 1M, 3e-4.

/// Numbers from here on are written with an exponent.
const TOO_LARGE: f64 = 1e15;

/// Formats a value with four significant digits.
pub(crate) fn value(v: f64) -> String {
    // Use the exponent after rounding: 9.9999 is 10.00, not 10.000.
    let scientific = format!("{v:.3e}");
    let v = scientific.parse().unwrap_or(v);
    let exponent = exponent(&scientific);
    match exponent {
        _ if v == 0.0 => "0".to_owned(),
        4..15 => shortened(v, 3 - exponent.rem_euclid(3)),
        -3..=3 => format!("{v:.*}", digits(3 - exponent)),
        _ => trimmed_exponent(&scientific),
    }
}

/// Formats a round number as briefly as possible.
pub(crate) fn round(v: f64) -> String {
    match v.abs() {
        0.0 => "0".to_owned(),
        1e-2..1e4 => trimmed(&format!("{v:.6}")).to_owned(),
        1e4..TOO_LARGE => shortened(v, 6),
        _ => trimmed_exponent(&format!("{v:.6e}")),
    }
}

/// Formats numbers that are `step` apart, with enough decimals to distinguish them.
pub(crate) fn evenly_spaced(values: &[f64], step: f64) -> Vec<String> {
    let largest = values.iter().fold(0.0_f64, |largest, v| largest.max(v.abs()));
    let step_exponent = exponent(&format!("{step:e}"));
    let label = |v: f64| match largest {
        1e-2..1e4 => format!("{v:.*}", digits(-step_exponent)),
        _ if v == 0.0 => "0".to_owned(),
        1e4..TOO_LARGE => shortened(v, unit(largest).0 - step_exponent),
        _ => {
            let own_exponent = exponent(&format!("{v:e}"));
            trimmed_exponent(&format!("{v:.*e}", digits(own_exponent - step_exponent)))
        }
    };
    values.iter().map(|&v| label(v)).collect()
}

/// Formats in thousands, millions and so on, with at most `decimals` decimals.
fn shortened(v: f64, decimals: i32) -> String {
    let (exponent, suffix) = unit(v.abs());
    let scaled = format!("{:.*}", digits(decimals), v / 10f64.powi(exponent));
    format!("{}{suffix}", trimmed(&scaled))
}

/// The exponent of the largest power of a thousand that is at most `abs`, and its suffix.
fn unit(abs: f64) -> (i32, &'static str) {
    match abs {
        1e12.. => (12, "T"),
        1e9.. => (9, "B"),
        1e6.. => (6, "M"),
        1e3.. => (3, "k"),
        _ => (0, ""),
    }
}

/// The exponent of a number in scientific notation.
fn exponent(scientific: &str) -> i32 {
    let (_, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    exponent.parse().unwrap_or(0)
}

/// Removes trailing zeros of the mantissa: 1.50e-4 becomes 1.5e-4.
fn trimmed_exponent(scientific: &str) -> String {
    match scientific.split_once('e') {
        Some((mantissa, exponent)) => format!("{}e{exponent}", trimmed(mantissa)),
        None => scientific.to_owned(),
    }
}

/// Removes trailing zeros of the decimals.
fn trimmed(decimal: &str) -> &str {
    if decimal.contains('.') { decimal.trim_end_matches('0').trim_end_matches('.') } else { decimal }
}

/// Clamps a number of decimals to 0 to 10.
fn digits(n: i32) -> usize {
    usize::try_from(n.clamp(0, 10)).expect("a clamped count is not negative")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_four_digits() {
        let cases = [
            (1.469_72, "1.470"),
            (0.0, "0"),
            (10.824_9, "10.82"),
            (9.999_96, "10.00"),
            (1234.4, "1234"),
            (12_344.0, "12.34k"),
            (999_960.0, "1M"),
            (-0.5, "-0.5000"),
            (0.012_345, "0.01235"),
            (3e-4, "3e-4"),
            (1.25e-5, "1.25e-5"),
            (1.25e18, "1.25e18"),
            (123_400_000.0, "123.4M"),
        ];
        for (v, expected) in cases {
            assert_eq!(value(v), expected);
        }
    }

    #[test]
    fn round_numbers_are_as_short_as_possible() {
        let cases =
            [(1.0, "1"), (0.01, "0.01"), (0.001, "1e-3"), (0.002, "2e-3"), (1000.0, "1000"), (2e4, "20k")];
        for (v, expected) in cases {
            assert_eq!(round(v), expected);
        }
    }

    #[test]
    fn labels_of_an_axis_share_their_decimals() {
        let labels = |values: &[f64]| evenly_spaced(values, values[1] - values[0]).join(" ");
        assert_eq!(labels(&[0.0, 500.0, 1000.0]), "0 500 1000");
        assert_eq!(labels(&[0.0, 5000.0, 10_000.0]), "0 5k 10k");
        assert_eq!(labels(&[0.0, 500_000.0, 1_000_000.0]), "0 500k 1M");
        assert_eq!(labels(&[1_000_000.0, 1_500_000.0]), "1M 1.5M");
        assert_eq!(labels(&[1.0, 1.5, 2.0]), "1.0 1.5 2.0");
        assert_eq!(labels(&[1.469, 1.4692]), "1.4690 1.4692");
        assert_eq!(labels(&[0.0, 2e-4, 4e-4]), "0 2e-4 4e-4");
        assert_eq!(labels(&[8e-4, 1e-3]), "8e-4 1e-3");
        assert_eq!(labels(&[-1.0, 0.0, 1.0]), "-1 0 1");
        assert_eq!(labels(&[0.0, 2e16, 4e16]), "0 2e16 4e16");
    }
}
