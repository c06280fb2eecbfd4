//! `kindling data check` on pairs of a preferred and another answer.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use ::chat::Encoder;
use anyhow::bail;
use journal::summary::{percent, plural};
use trainer::{PairSummary, RowsRead};

use super::shown;

/// Checks all rows. `encoder` trains last answers.
pub(super) fn check(path: &Path, encoder: &Encoder, block_size: Option<usize>) -> anyhow::Result<ExitCode> {
    let mut summary = PairSummary::default();
    let (_, rows) = summary.read(path, encoder, block_size)?;
    write_figures(&mut io::stdout().lock(), &summary, &rows, block_size)?;
    if let Some((place, pair)) = &summary.first {
        for (name, example) in ["chosen", "rejected"].into_iter().zip(pair) {
            shown::write(encoder.tokenizer(), &format!("{place}, {name}"), example)?;
        }
    }
    rows.refuse_flaws(path)?;
    match summary.n_pairs {
        0 => bail!("no pair can be trained on"),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn write_figures(
    out: &mut impl Write,
    summary: &PairSummary,
    rows: &RowsRead,
    block_size: Option<usize>,
) -> io::Result<()> {
    let PairSummary { n_pairs, n_tokens, n_trained_tokens, .. } = *summary;
    let share = percent(n_trained_tokens as f64 / n_tokens.max(1) as f64);
    let mut line = |label: &str, value: String| writeln!(out, "{label:<16}{value}");
    line("pairs", n_pairs.to_string())?;
    line("tokens", n_tokens.to_string())?;
    line("trained tokens", format!("{n_trained_tokens} ({share})"))?;
    line("longest", plural(summary.n_tokens_longest, "token"))?;
    if let Some(block_size) = block_size {
        line("dropped", format!("{}, which do not fit {block_size} tokens", summary.n_too_long))?;
    }
    line("refused", rows.n_flawed.to_string())?;
    line("SHA-256", rows.sha256.clone())
}
