//! `kindling generate`.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use console::{self, report, warn};
use engine::{Generation, MAX_BATCH_SIZE, Model, Request, token_id, with_prompt_prefix};
use journal::summary::plural;
use model::window_start;
use rustyline::{DefaultEditor, error::ReadlineError};
use sampler::{Options, Sample, StoppedBy};
use serde::Serialize;
use tokenizer::Tokenizer;

#[cfg(feature = "grammar")]
use crate::grammar_args::{GrammarArgs, constraint};
use crate::{
    ctrl_c::{CtrlC, INTERRUPTED},
    kv_cache_args::KvCacheArgs,
    memory,
    model_args::{ModelArgs, WeightsArgs},
    sample_printer::SamplePrinter,
    sampling_args::{PromptLookupArgs, SamplingArgs, report_seed, seed_or_random},
    usage::{ResultExt, at_least},
};

/// Generates text with a model.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Samples are generated side by side and printed one after the other. Bias, penalties and temperature
apply before the filters: top-k, top-p, min-p, typical-p. Ctrl-C ends all samples, prints the text
generated so far, and exits with code 130; a second Ctrl-C quits immediately. On a terminal, control
characters are printed as escapes.

With --json, the object has these keys:
  seed          a number: --seed, or the random one
  samples       a list with one object per sample that was started:
    text        a string, without the prompt, the stop string and the stop token
    ids         a list of token ids, including the stop string or the stop token
    logprobs    a list of numbers: the natural logarithm of each token's probability, before bias,
                penalties, temperature and filters
    stopped_by  \"max_tokens\", \"stop_string\", \"stop_token\", \"constraint\" (the JSON schema allows no
                more) or \"interrupted\"
    stop        the stop string that ended the text, or null

Examples:
  kindling generate --prompt 'ROMEO:'
  kindling generate runs/tiny --prompt 'To be' --temperature 0        always the most probable token
  kindling generate --samples 3 --max-tokens 100 --seed 1 --json
  cat chapter.txt | kindling generate --prompt-file -                 continue a text
  kindling generate -i                                                prompts from the terminal"
)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    weights: WeightsArgs,

    #[command(flatten)]
    prompt: PromptArgs,

    #[command(flatten)]
    sampling: SamplingArgs,

    #[command(flatten)]
    prompt_lookup: PromptLookupArgs,

    #[command(flatten)]
    kv_cache: KvCacheArgs,

    #[cfg(feature = "grammar")]
    #[command(flatten)]
    grammar: GrammarArgs,

    #[command(flatten)]
    stop: StopArgs,

    /// Random seed; the same seed gives the same text. Without it, a random one is used and printed.
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = at_least(0_u64),
        help_heading = "Samples"
    )]
    seed: Option<u64>,

    /// Number of samples to generate.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        allow_negative_numbers = true,
        value_parser = at_least(1_u64),
        help_heading = "Samples"
    )]
    samples: u64,

    /// Print one JSON object after the last sample, without the prompt.
    #[arg(long, conflicts_with = "interactive", help_heading = "Samples")]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Prompt")]
struct PromptArgs {
    /// Prompt that the model continues; without it, the model starts a new text.
    #[arg(long, allow_hyphen_values = true, conflicts_with_all = ["prompt_file", "interactive"])]
    prompt: Option<String>,

    /// File with the prompt; `-` reads standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "interactive")]
    prompt_file: Option<PathBuf>,

    /// Read prompts from the terminal, one per line; each is independent of the others.
    #[arg(short, long)]
    interactive: bool,

    /// Encode special tokens such as <|endoftext|> in the prompt as single tokens, not as plain text.
    #[arg(long)]
    special: bool,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Stopping")]
struct StopArgs {
    /// Stop after N tokens.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 500,
        allow_negative_numbers = true,
        value_parser = at_least(0_usize)
    )]
    max_tokens: usize,

    /// Stop at this string, which is not printed; repeatable.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,

    /// Stop at this token, given as its text, or as # and its id; it is not printed; repeatable.
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    stop_token: Vec<String>,

    /// Do not stop at EOS tokens; continue with the next text.
    #[arg(long)]
    ignore_eos: bool,
}

/// The object that `--json` prints. The help documents the type of each key.
#[derive(Debug, Serialize)]
struct Output {
    seed: u64,
    samples: Vec<SampleOutput>,
}

#[derive(Debug, Serialize)]
struct SampleOutput {
    text: String,
    ids: Vec<u32>,
    logprobs: Vec<f32>,
    stopped_by: &'static str,
    stop: Option<String>,
}

impl From<Sample> for SampleOutput {
    fn from(Sample { text, ids, logprobs, stopped_by }: Sample) -> Self {
        let (stopped_by, stop) = match stopped_by {
            StoppedBy::MaxTokens => ("max_tokens", None),
            StoppedBy::StopString(stop) => ("stop_string", Some(stop)),
            StoppedBy::StopToken => ("stop_token", None),
            StoppedBy::Constraint => ("constraint", None),
            StoppedBy::Interrupted => ("interrupted", None),
        };
        Self { text, ids, logprobs, stopped_by, stop }
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let seed = seed_or_random(args.seed);
    // Check the options before loading a model.
    plain_options(&args, seed).check().usage()?;
    #[cfg(feature = "grammar")]
    let grammar = args.grammar.read(args.prompt.prompt_file.as_deref())?;
    let given = match &args.prompt {
        PromptArgs { prompt: Some(text), .. } => text.clone(),
        PromptArgs { prompt_file: Some(path), .. } => dataset::read_text(path)?,
        PromptArgs { .. } => String::new(),
    };
    let (_, mut model) = args.model.load(&args.weights)?;
    model.gpt = args.kv_cache.apply(model.gpt)?;
    let options = options(&args, seed, &model)?;
    options.check().usage()?;
    #[cfg(feature = "grammar")]
    let constraint = grammar.map(|grammar| constraint(&grammar, &model, &eos(&args, &model))).transpose()?;
    #[cfg(not(feature = "grammar"))]
    let constraint = None;
    let ctrl_c = CtrlC::listen()?;
    if args.prompt.interactive {
        return interact(&model, &options, &args, &ctrl_c);
    }
    let prompt = prompt(&args, &model, &given)?;
    ctrl_c.begin_samples();
    report_seed(args.seed, seed);
    let printer = if args.json { SamplePrinter::silent() } else { SamplePrinter::stdout(&given) };
    let request = Request { samples: 0..args.samples, constraint, ..request(&args, prompt, options) };
    let samples = generate(&model, request, printer, &ctrl_c)?;
    if args.json {
        let samples = samples.into_iter().map(SampleOutput::from).collect();
        writeln!(io::stdout(), "{}", serde_json::to_string(&Output { seed, samples })?)?;
    }
    Ok(if ctrl_c.is_pressed() { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// The options that need no tokenizer.
fn plain_options(args: &Args, seed: u64) -> Options {
    let Args { sampling, stop, .. } = args;
    Options {
        max_tokens: stop.max_tokens,
        logprobs: args.json,
        stop: stop.stop.clone(),
        seed,
        ..sampling.plain_options()
    }
}

fn options(args: &Args, seed: u64, model: &Model) -> anyhow::Result<Options> {
    let tokenizer = &model.tokenizer;
    let mut options =
        Options { logit_bias: args.sampling.logit_bias(tokenizer)?, ..plain_options(args, seed) };
    for token in &args.stop.stop_token {
        options.stop_tokens.push(token_id(tokenizer, token).context("--stop-token")?);
    }
    options.stop_tokens.extend(eos(args, model));
    Ok(options)
}

/// The EOS tokens, unless `--ignore-eos`.
fn eos(args: &Args, model: &Model) -> Vec<u32> {
    if args.stop.ignore_eos {
        return Vec::new();
    }
    model.special_tokens.eos.iter().copied().chain(model.tokenizer.end_of_text()).collect()
}

/// The ids of a prompt, with notes and warnings about it.
fn prompt(args: &Args, model: &Model, text: &str) -> anyhow::Result<Vec<u32>> {
    let Model { gpt, tokenizer, .. } = model;
    let ids = if args.prompt.special { tokenizer.encode_special(text)? } else { tokenizer.encode(text)? };
    let prompt = with_prompt_prefix(tokenizer, ids);
    if !args.prompt.special {
        report_special_in(tokenizer, text);
    }
    warn_if_cropped(&prompt, gpt.config().block_size);
    if args.model.is_on_cpu() {
        let n_tokens = prompt.len().saturating_add(args.stop.max_tokens);
        memory::check_kv_cache(gpt, args.samples.min(MAX_BATCH_SIZE as u64), n_tokens)?;
    }
    Ok(prompt)
}

/// Prints a note if the prompt contains a special token as plain text.
fn report_special_in(tokenizer: &Tokenizer, prompt: &str) {
    if let Some(token) = tokenizer.special_in(prompt) {
        report(format_args!(
            "note: the prompt contains the special token {token} as plain text; --special encodes it as one token"
        ));
    }
}

fn warn_if_cropped(prompt: &[u32], block_size: usize) {
    let dropped = window_start(prompt.len(), block_size);
    if dropped > 0 {
        warn(format_args!(
            "the prompt has {}, more than the block size of {block_size}; dropping the first {}",
            plural(prompt.len(), "token"),
            plural(dropped, "token")
        ));
    }
}

/// A request for one sample.
fn request(args: &Args, prompt: Vec<u32>, options: Options) -> Request {
    Request { prompt_lookup: args.prompt_lookup.n_max(), ..Request::new(prompt, options) }
}

/// Generates the samples of a request and prints them as they are generated. Ctrl-C or a closed stdout ends them.
fn generate(
    model: &Model,
    request: Request,
    mut printer: SamplePrinter<'_>,
    ctrl_c: &CtrlC,
) -> anyhow::Result<Vec<Sample>> {
    let mut generation = Generation::begin(&model.gpt, &model.tokenizer, request)?;
    printer.begin();
    while let Some(piece) = generation.next() {
        printer.print_piece(piece?);
        if ctrl_c.is_pressed() || printer.has_failed() {
            generation.interrupt();
        }
    }
    printer.finish()?;
    Ok(generation.into_samples())
}

/// Reads prompts until the end of input.
fn interact(model: &Model, options: &Options, args: &Args, ctrl_c: &CtrlC) -> anyhow::Result<ExitCode> {
    report_seed(args.seed, options.seed);
    report(format_args!("each line is a prompt; Ctrl-C stops generating, Ctrl-D quits"));
    let mut editor = DefaultEditor::new().context("cannot open the terminal")?;
    let mut next = 0;
    loop {
        let line = match editor.readline("> ") {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(ExitCode::SUCCESS),
            Err(error) => return Err(error).context("cannot read a prompt"),
        };
        editor.add_history_entry(&line).context("cannot add the prompt to the history")?;
        let prompt = match prompt(args, model, &line) {
            Ok(prompt) => prompt,
            Err(error) if error.is::<tokenizer::Error>() => {
                console::error(&error);
                continue;
            }
            Err(error) => return Err(error),
        };
        ctrl_c.begin_samples();
        // New sample numbers each time, so that a repeated prompt gives another text.
        let samples = next..next + args.samples;
        let request = Request { samples, ..request(args, prompt, options.clone()) };
        generate(model, request, SamplePrinter::stdout(&line), ctrl_c)?;
        ctrl_c.end_samples();
        next += args.samples;
    }
}
