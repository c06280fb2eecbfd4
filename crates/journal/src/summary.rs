//! Short human-readable counts, durations and model sizes.

use std::{fmt, time::Duration};

use model::GptConfig;

/// A count with a unit prefix: 804k, 1.1M, 1.6G.
pub fn count(n: u64) -> String {
    let n = n as f64;
    match n {
        _ if n < 1e3 => format!("{n}"),
        _ if n < 9.95e3 => format!("{:.1}k", n / 1e3),
        _ if n < 999.5e3 => format!("{:.0}k", n / 1e3),
        _ if n < 99.5e6 => format!("{:.1}M", n / 1e6),
        _ if n < 999.5e6 => format!("{:.0}M", n / 1e6),
        _ => format!("{:.1}G", n / 1e9),
    }
}

/// A count and its noun, singular or plural: 1 token, 2 tokens.
pub fn plural(n: impl fmt::Display, noun: &str) -> String {
    let n = n.to_string();
    let ending = if n == "1" { "" } else { "s" };
    format!("{n} {noun}{ending}")
}

/// A share from 0 to 1, in percent.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A duration in its two largest units: 42s, 3m07s, 2h05m.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}

/// An approximate duration, from seconds up to years.
pub fn duration_about(seconds: f64) -> String {
    const DAY: f64 = 86_400.0;
    match seconds {
        _ if seconds >= 730.0 * DAY => format!("{:.0} years", seconds / DAY / 365.0),
        _ if seconds >= 2.0 * DAY => format!("{:.0} days", seconds / DAY),
        _ if seconds < 1.0 => "under 1s".to_owned(),
        _ => duration(Duration::from_secs_f64(seconds)),
    }
}

/// A number of epochs with two or three significant digits.
pub fn epochs_in_words(epochs: f64) -> String {
    let rounded = match epochs {
        _ if epochs < 0.005 => return "less than 0.01 epochs".to_owned(),
        _ if epochs < 0.995 => format!("{epochs:.2}"),
        _ if epochs < 9.95 => format!("{epochs:.1}"),
        _ => format!("{epochs:.0}"),
    };
    if rounded == "1.0" { "1 epoch".to_owned() } else { format!("{rounded} epochs") }
}

/// A model's parameter count, layers, heads, width and block size.
pub fn sizes(config: &GptConfig) -> String {
    format!(
        "{} parameters ({}, {}, {} wide, block {})",
        count(config.n_params() as u64),
        plural(config.n_layer, "layer"),
        plural(config.attention.n_head, "head"),
        config.n_embd,
        config.block_size,
    )
}

/// At most `n` elements at even distances, including the first and the last.
pub fn evenly<T>(all: &[T], n: usize) -> impl Iterator<Item = &T> {
    let last = all.len().saturating_sub(1);
    let n = n.min(all.len());
    (0..n).map(move |i| &all[if n > 1 { i * last / (n - 1) } else { last }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let cases = [(0, "0"), (999, "999"), (1_234, "1.2k"), (9_999, "10k"), (804_096, "804k")];
        let large = [(999_700, "1.0M"), (124_439_808, "124M"), (1_557_611_200, "1.6G")];
        for (n, expected) in cases.into_iter().chain(large) {
            assert_eq!(count(n), expected);
        }
        for (seconds, expected) in [(5, "5s"), (187, "3m07s"), (7_530, "2h05m")] {
            assert_eq!(duration(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn a_noun_agrees_with_its_count() {
        assert_eq!(
            [0, 1, 2, 11].map(|n| plural(n, "token")),
            ["0 tokens", "1 token", "2 tokens", "11 tokens"]
        );
        assert_eq!(plural("28,064", "parameter"), "28,064 parameters");
    }

    #[test]
    fn evenly_chosen_elements_include_both_ends() {
        let all: Vec<usize> = (0..100).collect();
        assert_eq!(evenly(&all, 4).copied().collect::<Vec<_>>(), [0, 33, 66, 99]);
        assert_eq!(evenly(&all[..2], 4).count(), 2);
        assert_eq!(evenly(&all[..1], 4).copied().collect::<Vec<_>>(), [0]);
        assert_eq!(evenly(&all[..0], 4).count(), 0);
    }
}
