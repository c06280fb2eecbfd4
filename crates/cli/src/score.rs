//! `kindling score`.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, anyhow, bail};
use engine::{Model, ScoredText, score_texts, window_stride};
use journal::summary::plural;
use monitor::warn_of_chats;
use serde::{Deserialize, Serialize};

use crate::{
    model_args::{ModelArgs, WeightsArgs},
    usage::at_least,
};

/// Prints the natural logarithm of the probability of each token, given those before it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A text longer than the block size is scored with a sliding window; each token has at least the block
size minus the stride of context. With --jsonl, each line of the file is a JSON string, or an object
with a string \"text\"; one line of JSON is printed for each, in the same order.

Examples:
  kindling score --text 'To be, or not to be'
  kindling score runs/tiny --file hamlet.txt --json
  kindling score --jsonl texts.jsonl > scores.jsonl"
)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    weights: WeightsArgs,

    #[command(flatten)]
    text: TextArgs,

    /// Tokens by which the sliding window moves; without it, half the block size.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = at_least(1_usize))]
    stride: Option<usize>,

    /// Print one JSON object: ids, tokens, logprobs (null for the first), mean_logprob.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct TextArgs {
    /// Text to score.
    #[arg(long, allow_hyphen_values = true)]
    text: Option<String>,

    /// File with the text to score; `-` reads standard input.
    #[arg(long)]
    file: Option<PathBuf>,

    /// File with one JSON-encoded text per line; `-` reads standard input.
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

/// The object that `--json` prints, and `--jsonl` for each line.
#[derive(Debug, Serialize)]
struct Output {
    ids: Vec<u32>,
    tokens: Vec<String>,
    logprobs: Vec<Option<f32>>,
    mean_logprob: Option<f64>,
}

impl From<ScoredText> for Output {
    fn from(scored: ScoredText) -> Self {
        let mean_logprob = scored.mean_logprob();
        let ScoredText { ids, tokens, logprobs } = scored;
        Self { ids, tokens, logprobs, mean_logprob }
    }
}

/// Number of texts per batch.
const TEXTS_PER_BATCH: usize = 256;

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let text = match &args.text {
        TextArgs { text: Some(text), .. } => text.clone(),
        TextArgs { file: Some(path), .. } => {
            path.to_str().map(warn_of_chats);
            dataset::read_text(path)?
        }
        TextArgs { jsonl: Some(path), .. } => return score_lines(&args, path, &mut out),
        TextArgs { .. } => unreachable!("clap requires one of them"),
    };
    let (_, Model { gpt, tokenizer, .. }) = args.model.load_exact(&args.weights)?;
    let stride = window_stride(args.stride, gpt.config().block_size)?;
    let ids = tokenizer.encode_text(&text)?;
    if ids.len() == tokenizer.prompt_prefix().len() {
        bail!("the text is empty; there is no token to score");
    }
    let score = Output::from(score_texts(&gpt, &tokenizer, vec![ids], stride).remove(0));
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
    let (_, Model { gpt, tokenizer, .. }) = args.model.load_exact(&args.weights)?;
    let stride = window_stride(args.stride, gpt.config().block_size)?;
    let mut lines = lines.lines().enumerate().map(|(idx, line)| -> anyhow::Result<Vec<u32>> {
        let at = || format!("line {} of {name}", idx + 1);
        let line = line.with_context(at)?;
        // The first line may start with a byte order mark.
        let line = if idx == 0 { line.trim_start_matches('\u{feff}') } else { &line };
        let line = serde_json::from_str(line)
            .map_err(|_| anyhow!("{} must be a JSON string, or an object with a string \"text\"", at()))?;
        let (Line::Text(text) | Line::Object { text }) = line;
        tokenizer.encode_text(&text).with_context(at)
    });
    loop {
        // Score the texts before an invalid line, then return the error.
        let (mut texts, mut problem) = (Vec::new(), None);
        for ids in lines.by_ref().take(TEXTS_PER_BATCH) {
            match ids {
                Ok(ids) => texts.push(ids),
                Err(error) => {
                    problem = Some(error);
                    break;
                }
            }
        }
        let is_end = texts.is_empty();
        for score in score_texts(&gpt, &tokenizer, texts, stride) {
            writeln!(out, "{}", serde_json::to_string(&Output::from(score))?)?;
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
