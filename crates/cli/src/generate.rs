//! `kindling generate`.

use std::{
    io::{self, Write},
    ops::ControlFlow,
    process::ExitCode,
};

use model::{Decoder, Gpt, window_start};
use sampler::{Options, Sample};
use serde::Serialize;
use tokenizer::Tokenizer;

use crate::{
    console::report,
    model_folder::{ModelArgs, Opened},
};

/// Writes text with a model.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kindling generate --prompt 'ROMEO:'
  kindling generate runs/tiny --prompt 'To be' --temperature 0        always the most probable token
  kindling generate --samples 3 --max-tokens 100 --seed 1 --json")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// The text to go on from; without it, the beginning of a text.
    #[arg(long)]
    prompt: Option<String>,

    /// Stop after this many tokens.
    #[arg(long, value_name = "N", default_value_t = 500)]
    max_tokens: usize,

    /// How daring the choice is; 0 takes the most probable token.
    #[arg(long, default_value_t = 0.8)]
    temperature: f32,

    /// Choose among the K most probable tokens.
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,

    /// Choose among the most probable tokens that have P of the probability together.
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,

    /// Choose among tokens at least P times as probable as the most probable.
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,

    /// Make tokens that occurred less probable; 1 is off.
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    repetition_penalty: f32,

    /// Stop at this string, which is left out; may be given several times.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,

    /// The same seed gives the same text; without it, each call gives another.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// How many texts to write.
    #[arg(long, value_name = "N", default_value_t = 1)]
    samples: u64,

    /// Print one JSON object when all is written, without the prompt.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Samples {
    samples: Vec<Sample>,
}

/// What stands between samples.
const SEPARATOR: &str = "---------------";

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let options = Options {
        max_tokens: args.max_tokens,
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        repetition_penalty: args.repetition_penalty,
        stop: args.stop,
        stop_token: None,
        seed: args.seed.unwrap_or_else(rand::random),
    };
    options.check()?;
    let Opened { model, tokenizer, .. } = args.model.open()?;
    let options = Options { stop_token: tokenizer.end_of_text(), ..options };
    let prompt = match &args.prompt {
        Some(text) if !text.is_empty() => tokenizer.encode(text)?,
        _ => beginning(&tokenizer),
    };
    warn_if_cropped(&prompt, model.config().block_size);

    let mut out = io::stdout().lock();
    let mut samples = Vec::new();
    for sample_idx in 0..args.samples {
        if args.json {
            samples.push(write_sample(&model, &tokenizer, &options, sample_idx, &prompt, &mut io::sink())?);
            continue;
        }
        if sample_idx > 0 {
            writeln!(out, "{SEPARATOR}")?;
        }
        write!(out, "{}", args.prompt.as_deref().unwrap_or_default())?;
        out.flush()?;
        write_sample(&model, &tokenizer, &options, sample_idx, &prompt, &mut out)?;
        writeln!(out)?;
    }
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&Samples { samples })?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes one sample to `out` as it comes.
pub(crate) fn write_sample(
    model: &Gpt,
    tokenizer: &Tokenizer,
    options: &Options,
    sample_idx: u64,
    prompt: &[u32],
    out: &mut impl Write,
) -> anyhow::Result<Sample> {
    let mut decoder = Decoder::new(model);
    let mut stream = tokenizer.decode_stream();
    let mut written = Ok(());
    let sample = sampler::generate(
        options,
        sample_idx,
        prompt,
        |id| stream.push(id),
        |ids| decoder.next_logits(ids).into_data().try_into_vec().map_err(|error| format!("{error:?}")),
        |text| {
            written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        },
    )?;
    written?;
    Ok(sample)
}

/// What a text begins with: the token that ends the one before it, or an empty line.
pub(crate) fn beginning(tokenizer: &Tokenizer) -> Vec<u32> {
    match tokenizer.end_of_text() {
        Some(id) => vec![id],
        None => tokenizer.encode("\n").unwrap_or_else(|_| vec![0]),
    }
}

fn warn_if_cropped(prompt: &[u32], block_size: usize) {
    let dropped = window_start(prompt.len(), block_size);
    if dropped > 0 {
        report(format_args!(
            "warning: the prompt has {} tokens and the model sees {block_size}; its first {dropped} are left out",
            prompt.len()
        ));
    }
}
