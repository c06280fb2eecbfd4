//! What is said to the person at the terminal.

use std::{
    env, fmt,
    io::{self, Write},
    time::Duration,
};

use comfy_table::{CellAlignment, Table, presets};
use jiff::{Timestamp, tz::TimeZone};

/// A line for the person: to stderr, which may be closed.
pub(crate) fn report(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// How the person calls this program: through cargo when cargo runs it.
pub(crate) fn program() -> &'static str {
    if env::var_os("CARGO").is_some() { "cargo run -p cli --" } else { "kindling" }
}

/// Rows under a header, with some columns aligned to the right.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
    right: &[usize],
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header).add_rows(rows);
    for (idx, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&idx) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// The name that was probably meant by one that there is not.
pub(crate) fn did_you_mean<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    /// Alike to so much, by Jaro and Winkler's measure, as clap asks of its options.
    const ALIKE: f64 = 0.7;
    let likeness = |known: &&str| strsim::jaro_winkler(name, known);
    let closest = names.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let closest = closest.filter(|known| likeness(known) > ALIKE);
    closest.map_or_else(String::new, |known| format!("; did you mean {known}?"))
}

/// At most `n` of them, the first and the last included.
pub(crate) fn evenly<T>(all: &[T], n: usize) -> impl Iterator<Item = &T> {
    let last = all.len().saturating_sub(1);
    let n = n.min(all.len());
    (0..n).map(move |i| &all[if n > 1 { i * last / (n - 1) } else { last }])
}

/// A moment, given in seconds since 1970, by the clock on the wall.
pub(crate) fn local_time(seconds: u64) -> String {
    let moment = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    moment.map_or_else(String::new, |moment| {
        moment.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string()
    })
}

/// An argument as one types it, in quotes where the shell needs them.
pub(crate) fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,=@%".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

/// A count with the letter people use: 804k, 1.1M.
pub(crate) fn count(n: u64) -> String {
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

/// A duration in the two units that matter: 42s, 3m07s, 2h05m.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
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
    fn the_closest_name_is_suggested_if_it_is_close() {
        let names = ["tiny", "nanogpt-cpu", "nanogpt-gpu"];
        assert_eq!(did_you_mean("tinny", names), "; did you mean tiny?");
        assert_eq!(did_you_mean("nanogpt_gpu", names), "; did you mean nanogpt-gpu?");
        assert_eq!(did_you_mean("hamlet.txt", names), "");
        assert_eq!(did_you_mean("tiny", []), "");
    }

    #[test]
    fn a_few_of_many_include_both_ends() {
        let all: Vec<usize> = (0..100).collect();
        assert_eq!(evenly(&all, 4).copied().collect::<Vec<_>>(), [0, 33, 66, 99]);
        assert_eq!(evenly(&all[..2], 4).count(), 2);
        assert_eq!(evenly(&all[..1], 4).copied().collect::<Vec<_>>(), [0]);
        assert_eq!(evenly(&all[..0], 4).count(), 0);
    }

    #[test]
    fn arguments_survive_the_shell() {
        assert_eq!(quoted("runs/tiny-2"), "runs/tiny-2");
        assert_eq!(quoted("my text"), "'my text'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
