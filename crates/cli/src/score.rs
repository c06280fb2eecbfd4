//! `kindling score`.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, anyhow, bail};
use model::Gpt;
use serde::{Deserialize, Serialize};
use tokenizer::Tokenizer;

use crate::{
    eval::{read_text, stride},
    model_folder::{ModelArgs, Opened},
};

/// Gives the natural logarithm of the probability of each token given those before it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A text longer than the block is read through a sliding window that gives each token at least
the block less the stride of context. With --jsonl, each line of the file is a JSON string, or an
object whose key \"text\" is one; for each a line is printed, in the same order.

Examples:
  kindling score --text 'To be, or not to be'
  kindling score runs/tiny --file hamlet.txt --json
  kindling score --jsonl texts.jsonl > scores.jsonl"
)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    text: TextArgs,

    /// Tokens by which the window over a long text moves; without it, half the block.
    #[arg(long, value_name = "N")]
    stride: Option<usize>,

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

    /// A file with a text on each line, as JSON; - is what comes in.
    #[arg(long, value_name = "FILE")]
    jsonl: Option<PathBuf>,
}

/// A line of `--jsonl`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Text(String),
    Object { text: String },
}

#[derive(Debug, Serialize)]
struct Score {
    ids: Vec<u32>,
    tokens: Vec<String>,
    logprobs: Vec<Option<f32>>,
    mean_logprob: Option<f64>,
}

/// Texts that are scored together.
const TEXTS_AT_ONCE: usize = 256;

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let text = match &args.text {
        TextArgs { text: Some(text), .. } => text.clone(),
        TextArgs { file: Some(path), .. } => read_text(path)?,
        TextArgs { jsonl: Some(path), .. } => return score_lines(&args, path, &mut out),
        TextArgs { .. } => unreachable!("clap asks for one of them"),
    };
    let Opened { model, tokenizer, .. } = args.model.open()?;
    let stride = stride(args.stride, &model)?;
    let score = score(&model, &tokenizer, &[text], stride)?.remove(0);
    if score.ids.is_empty() {
        bail!("the text is empty; there is no token to score");
    }
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

/// Scores the texts of a file with one on each line.
fn score_lines(args: &Args, path: &Path, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let lines: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(path).with_context(|| format!("read {}", path.display()))?))
    };
    let Opened { model, tokenizer, .. } = args.model.open()?;
    let stride = stride(args.stride, &model)?;
    let mut lines = lines.lines().enumerate().map(|(idx, line)| -> anyhow::Result<String> {
        let at = || format!("line {} of {}", idx + 1, path.display());
        let line = serde_json::from_str(&line.with_context(at)?)
            .map_err(|_| anyhow!("{} is no JSON string, and no object whose key \"text\" is one", at()))?;
        Ok(match line {
            Line::Text(text) | Line::Object { text } => text,
        })
    });
    loop {
        let texts = lines.by_ref().take(TEXTS_AT_ONCE).collect::<anyhow::Result<Vec<_>>>()?;
        if texts.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        for score in score(&model, &tokenizer, &texts, stride)? {
            writeln!(out, "{}", serde_json::to_string(&score)?)?;
        }
        out.flush()?;
    }
}

fn score(model: &Gpt, tokenizer: &Tokenizer, texts: &[String], stride: usize) -> anyhow::Result<Vec<Score>> {
    let ids = texts.iter().map(|text| tokenizer.encode(text)).collect::<Result<Vec<_>, _>>()?;
    let slices: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
    let scored = model::score(model, &slices, stride);
    let score = |(ids, scored): (Vec<u32>, Vec<f32>)| Score {
        tokens: ids.iter().map(|&id| tokenizer.decode(&[id])).collect(),
        mean_logprob: mean(&scored),
        logprobs: ids.first().map(|_| None).into_iter().chain(scored.into_iter().map(Some)).collect(),
        ids,
    };
    Ok(ids.into_iter().zip(scored).map(score).collect())
}

/// The mean of a list that is not empty.
pub(crate) fn mean(values: &[f32]) -> Option<f64> {
    let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
    (!values.is_empty()).then(|| sum / values.len() as f64)
}
