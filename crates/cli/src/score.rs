//! `kindling score`.

use std::{
    io::{self, Write},
    iter,
    path::PathBuf,
    process::ExitCode,
};

use anyhow::bail;
use serde::Serialize;

use crate::{
    eval::read_text,
    model_folder::{ModelArgs, Opened},
};

/// Gives the natural logarithm of the probability of each token given those before it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A text longer than the block is read through a sliding window that gives each token at least
half a block of context.

Examples:
  kindling score --text 'To be, or not to be'
  kindling score runs/tiny --file hamlet.txt --json"
)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    text: TextArgs,

    /// Print one JSON object: ids, tokens, logprobs (null for the first), mean_logprob.
    #[arg(long)]
    json: bool,
}

/// The text to score.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct TextArgs {
    /// The text to score.
    #[arg(long)]
    text: Option<String>,

    /// A file with the text to score.
    #[arg(long)]
    file: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Score {
    ids: Vec<u32>,
    tokens: Vec<String>,
    logprobs: Vec<Option<f32>>,
    mean_logprob: Option<f64>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let text = match (&args.text.text, &args.text.file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => read_text(path)?,
        (None, None) => unreachable!("clap asks for one of the two"),
    };
    let Opened { model, tokenizer, .. } = args.model.open()?;
    let ids = tokenizer.encode(&text)?;
    if ids.is_empty() {
        bail!("the text is empty; there is no token to score");
    }
    let scored = model::score(&model, &ids);
    let mean_logprob = mean(&scored);
    let score = Score {
        tokens: ids.iter().map(|&id| tokenizer.decode(&[id])).collect(),
        logprobs: iter::once(None).chain(scored.into_iter().map(Some)).collect(),
        mean_logprob,
        ids,
    };

    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&score)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for ((id, token), logprob) in score.ids.iter().zip(&score.tokens).zip(&score.logprobs) {
        match logprob {
            Some(logprob) => writeln!(out, "{logprob:>10.4}  {id:>6}  {token:?}")?,
            None => writeln!(out, "{:>10}  {id:>6}  {token:?}", "-")?,
        }
    }
    if let Some(mean) = score.mean_logprob {
        writeln!(out, "{mean:>10.4}  mean of {} tokens", score.ids.len() - 1)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The mean of a list that is not empty.
pub(crate) fn mean(values: &[f32]) -> Option<f64> {
    let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
    (!values.is_empty()).then(|| sum / values.len() as f64)
}
