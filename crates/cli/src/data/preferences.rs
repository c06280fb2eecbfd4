//! `kindling data check` on pairs of a preferred and another answer.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use ::chat::{
    Encoder, Example,
    data::{Located, Preference, Reader},
};
use anyhow::bail;
use journal::summary::plural;

use super::shown;

/// Rows that are read to tell pairs from conversations.
const N_ROWS_TRIED: usize = 5;

/// Refused rows that are printed.
const N_ERRORS_SHOWN: usize = 5;

/// Whether one of the first rows is a pair.
pub(super) fn are_pairs(path: &Path) -> bool {
    Reader::preferences(path).is_ok_and(|rows| rows.take(N_ROWS_TRIED).any(|row| row.is_ok()))
}

/// Checks all rows. `encoder` trains last answers.
pub(super) fn check(path: &Path, encoder: &Encoder, block_size: Option<usize>) -> anyhow::Result<ExitCode> {
    let mut reader = Reader::preferences(path)?;
    let mut found = Found::default();
    for row in reader.by_ref() {
        match row {
            Err(error @ ::chat::Error::Read { .. }) => return Err(error.into()),
            Err(error) => found.refuse(&error.into()),
            Ok(row) => {
                let pair = encoder
                    .encode(&row.value.chosen)
                    .and_then(|chosen| Ok([chosen, encoder.encode(&row.value.rejected)?]));
                match pair {
                    Ok(pair) => found.add(&row, pair, block_size),
                    Err(error) => found.refuse(&anyhow::Error::from(error).context(row.to_string())),
                }
            }
        }
    }
    found.write(&reader.checksum(), block_size)?;
    if let Some((place, pair)) = &found.first {
        for (name, example) in ["chosen", "rejected"].into_iter().zip(pair) {
            shown::write(encoder.tokenizer(), &format!("{place}, {name}"), example)?;
        }
    }
    match (found.n_refused, found.n_pairs) {
        (0, 0) => bail!("no pair can be trained on"),
        (0, _) => Ok(ExitCode::SUCCESS),
        (n, _) => {
            let n_rows = found.n_pairs + found.n_too_long + n;
            bail!("{n} of {} can't be trained on; correct or remove them", plural(n_rows, "row"))
        }
    }
}

/// The results of a check.
#[derive(Debug, Default)]
struct Found {
    n_pairs: usize,
    n_tokens: usize,
    n_trained: usize,
    /// The tokens of the longest pair, also of one that does not fit.
    n_tokens_longest: usize,
    n_too_long: usize,
    n_refused: usize,
    /// The first pair and its place.
    first: Option<(String, [Example; 2])>,
}

impl Found {
    fn add(&mut self, row: &Located<Preference>, pair: [Example; 2], block_size: Option<usize>) {
        let n_tokens: usize = pair.iter().map(|example| example.ids.len()).sum();
        self.n_tokens_longest = self.n_tokens_longest.max(n_tokens);
        // The last token of each answer is a target only.
        if block_size.is_some_and(|block_size| n_tokens - 2 > block_size) {
            self.n_too_long += 1;
            return;
        }
        self.n_pairs += 1;
        self.n_tokens += n_tokens;
        self.n_trained += pair.iter().map(Example::n_trained).sum::<usize>();
        self.first.get_or_insert_with(|| (row.to_string(), pair));
    }

    fn refuse(&mut self, error: &anyhow::Error) {
        self.n_refused += 1;
        if self.n_refused <= N_ERRORS_SHOWN {
            console::error(error);
        }
    }

    fn write(&self, checksum: &str, block_size: Option<usize>) -> io::Result<()> {
        let share = 100.0 * self.n_trained as f64 / self.n_tokens.max(1) as f64;
        let mut out = io::stdout().lock();
        let mut line = |label: &str, value: String| writeln!(out, "{label:<16}{value}");
        line("pairs", self.n_pairs.to_string())?;
        line("tokens", self.n_tokens.to_string())?;
        line("trained tokens", format!("{} ({share:.1} %)", self.n_trained))?;
        line("longest", plural(self.n_tokens_longest, "token"))?;
        if let Some(block_size) = block_size {
            line("dropped", format!("{}, which do not fit {block_size} tokens", self.n_too_long))?;
        }
        line("refused", self.n_refused.to_string())?;
        line("SHA-256", checksum.to_owned())
    }
}
