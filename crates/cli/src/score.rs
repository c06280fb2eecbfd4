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
    console::plural,
    eval::stride,
    model_folder::{ModelArgs, Opened},
    usage::at_least,
};

/// Prints the natural logarithm of the probability of each token, given those before it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A text longer than the block size is scored with a sliding window; each token has at least the block
size minus the stride of context. With --jsonl, each line of the file is a JSON string, or an object
with a string \"text\"; for each, a line of JSON is printed, in the same order.

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

    /// Tokens by which the sliding window moves; without it, half the block size.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = at_least(1_usize))]
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
    #[arg(long, allow_hyphen_values = true)]
    text: Option<String>,

    /// A file with the text to score; `-` reads standard input.
    #[arg(long)]
    file: Option<PathBuf>,

    /// A file with a text on each line, as JSON; `-` reads standard input.
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
        TextArgs { file: Some(path), .. } => dataset::read_text(path)?,
        TextArgs { jsonl: Some(path), .. } => return score_lines(&args, path, &mut out),
        TextArgs { .. } => unreachable!("clap asks for one of them"),
    };
    let Opened { model, tokenizer, .. } = args.model.open()?;
    let stride = stride(args.stride, &model)?;
    let ids = tokenizer.encode_text(&text)?;
    if ids.len() == tokenizer.beginning().len() {
        bail!("the text is empty; there is no token to score");
    }
    let score = score(&model, &tokenizer, vec![ids], stride).remove(0);
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
        writeln!(out, "{mean:>10.4}  mean of {}", plural(score.ids.len() - 1, "token"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Scores the texts of a file with one on each line.
fn score_lines(args: &Args, path: &Path, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let is_stdin = path == Path::new("-");
    let lines: Box<dyn BufRead> = if is_stdin {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(path).with_context(|| format!("cannot read {}", path.display()))?))
    };
    let name = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    let Opened { model, tokenizer, .. } = args.model.open()?;
    let stride = stride(args.stride, &model)?;
    let mut lines = lines.lines().enumerate().map(|(idx, line)| -> anyhow::Result<Vec<u32>> {
        let at = || format!("line {} of {name}", idx + 1);
        let line = line.with_context(at)?;
        // A byte order mark may come before the first.
        let line = if idx == 0 { line.trim_start_matches('\u{feff}') } else { &line };
        let line = serde_json::from_str(line)
            .map_err(|_| anyhow!("{} must be a JSON string, or an object with a string \"text\"", at()))?;
        let (Line::Text(text) | Line::Object { text }) = line;
        tokenizer.encode_text(&text).with_context(at)
    });
    loop {
        // What comes before a line that can't be scored is scored.
        let (mut texts, mut problem) = (Vec::new(), None);
        for ids in lines.by_ref().take(TEXTS_AT_ONCE) {
            match ids {
                Ok(ids) => texts.push(ids),
                Err(error) => {
                    problem = Some(error);
                    break;
                }
            }
        }
        let is_end = texts.is_empty();
        for score in score(&model, &tokenizer, texts, stride) {
            writeln!(out, "{}", serde_json::to_string(&score)?)?;
        }
        out.flush()?;
        if let Some(problem) = problem {
            return Err(problem);
        }
        if is_end {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn score(model: &Gpt, tokenizer: &Tokenizer, texts: Vec<Vec<u32>>, stride: usize) -> Vec<Score> {
    let slices: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let scored = model::score(model, &slices, stride);
    let token = |id: &u32| match tokenizer.token_bytes(*id) {
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => tokenizer.decode(&[*id]),
    };
    let score = |(ids, scored): (Vec<u32>, Vec<f32>)| Score {
        tokens: ids.iter().map(token).collect(),
        mean_logprob: mean(&scored),
        logprobs: ids.first().map(|_| None).into_iter().chain(scored.into_iter().map(Some)).collect(),
        ids,
    };
    texts.into_iter().zip(scored).map(score).collect()
}

/// The mean of a list that is not empty.
pub(crate) fn mean(values: &[f32]) -> Option<f64> {
    let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
    (!values.is_empty()).then(|| sum / values.len() as f64)
}
