//! `kindling generate`.

use std::{
    io::{self, Write},
    ops::Range,
    path::PathBuf,
    process::{self, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, anyhow};
use model::{Decoder, Gpt, window_start};
use rustyline::{DefaultEditor, error::ReadlineError};
use sampler::{Logits, Options, Sample, StoppedBy};
use serde::Serialize;
use tokenizer::Tokenizer;

use crate::{
    console::{self, plural, report, warn},
    memory,
    model_folder::{ModelArgs, Opened},
    next_logits,
    shown::Shown,
    usage::{ResultExt, UsageError, at_least},
};

/// Generates text with a model.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Samples are generated side by side and printed one after the other. Bias, penalties and temperature
apply before the filters: top-k, top-p, min-p, typical-p. Ctrl-C ends all samples, prints them as
far as they are, and exits with code 130; a second Ctrl-C ends kindling at once. On a terminal,
control characters in a text are printed as escapes.

With --json, the object has these keys:
  seed          a number: --seed, or the random one
  samples       a list with an object for each sample that was begun:
    text        a string, without the prompt, the stop string and the stop token
    ids         a list of token ids, including the stop string or the stop token
    logprobs    a list of numbers: the natural logarithm of the probability of each of ids, as the
                model gives it, before bias, penalties, temperature and filters
    stopped_by  \"max_tokens\", \"stop_string\", \"stop_token\" or \"interrupted\"
    stop        the stop string that ended the text, or null

Examples:
  kindling generate --prompt 'ROMEO:'
  kindling generate runs/tiny --prompt 'To be' --temperature 0        always the most probable token
  kindling generate --samples 3 --max-tokens 100 --seed 1 --json
  cat chapter.txt | kindling generate --prompt-file -                 continue a text
  kindling generate -i                                                type prompt after prompt"
)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    prompt: PromptArgs,

    #[command(flatten)]
    choice: ChoiceArgs,

    #[command(flatten)]
    end: EndArgs,

    /// Random seed: the same one gives the same text. Without it, kindling chooses one and prints it.
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

/// The prompt.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Prompt")]
struct PromptArgs {
    /// The prompt, which the model continues; without it, the model starts a new text.
    #[arg(long, allow_hyphen_values = true, conflicts_with_all = ["prompt_file", "interactive"])]
    prompt: Option<String>,

    /// A file with the prompt; `-` reads standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "interactive")]
    prompt_file: Option<PathBuf>,

    /// Read prompts from the terminal, one after the other; none depends on those before it.
    #[arg(short, long)]
    interactive: bool,

    /// Encode special tokens such as <|endoftext|> in the prompt as one token, not as their characters.
    #[arg(long)]
    special: bool,
}

/// How the next token is sampled.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Sampling")]
struct ChoiceArgs {
    /// Sampling temperature; 0 always takes the most probable token.
    #[arg(long, default_value_t = 0.8, allow_negative_numbers = true)]
    temperature: f32,

    /// Sample from the K most probable tokens.
    #[arg(long, value_name = "K", allow_negative_numbers = true, value_parser = at_least(1_usize))]
    top_k: Option<usize>,

    /// Sample from the most probable tokens whose probabilities add up to P.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f32>,

    /// Sample from the tokens at least P times as probable as the most probable one.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    min_p: Option<f32>,

    /// Sample from the most typical tokens, whose surprisal is nearest to the entropy, up to a total probability of P.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    typical_p: Option<f32>,

    /// Make tokens of the prompt and of the text so far less probable; 1 is off.
    #[arg(long, value_name = "X", default_value_t = 1.0, allow_negative_numbers = true)]
    repetition_penalty: f32,

    /// Subtract X from a token's logit for each time it was generated; 0 is off.
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    frequency_penalty: f32,

    /// Subtract X from a token's logit once it was generated; 0 is off.
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f32,

    /// Add X to the logit of a token, given as its text, or as # and its id; repeatable.
    #[arg(long, value_name = "TOKEN=X", allow_hyphen_values = true)]
    logit_bias: Vec<String>,
}

/// When a text ends.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Stopping")]
struct EndArgs {
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

/// The object of `--json`. Each key has one type, documented in the help.
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
            StoppedBy::Interrupted => ("interrupted", None),
        };
        Self { text, ids, logprobs, stopped_by, stop }
    }
}

/// The exit code of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Samples that are generated side by side, at most.
const SIDE_BY_SIDE: u64 = 8;

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let seed = args.seed.unwrap_or_else(random_seed);
    // What is wrong with an option is said before a model is read.
    plain_options(&args, seed).check().usage()?;
    let given = match &args.prompt {
        PromptArgs { prompt: Some(text), .. } => text.clone(),
        PromptArgs { prompt_file: Some(path), .. } => dataset::read_text(path)?,
        PromptArgs { .. } => String::new(),
    };
    let Opened { source, model, tokenizer } = args.model.open()?;
    let options = options(&args, seed, &tokenizer, &source.marks()?.ends)?;
    options.check().usage()?;
    let writer = Writer { model: &model, tokenizer: &tokenizer, options: &options };
    let ctrl_c = CtrlC::listen()?;
    if args.prompt.interactive {
        return interact(&writer, &args, &ctrl_c);
    }
    let prompt = encode(&tokenizer, &given, args.prompt.special)?;
    hint_at_special(&tokenizer, &given, args.prompt.special);
    warn_if_cropped(&prompt, model.config().block_size);
    check_memory(&args, &model, &prompt)?;
    ctrl_c.begin_samples();
    report_seed(&args, seed);
    let shown = if args.json { Shown::nothing() } else { Shown::stdout(&given) };
    let samples = writer.write(0..args.samples, &prompt, &mut shown.until(ctrl_c.is_pressed.clone()))?;
    if args.json {
        let samples = samples.into_iter().map(SampleOutput::from).collect();
        writeln!(io::stdout(), "{}", serde_json::to_string(&Output { seed, samples })?)?;
    }
    let is_interrupted = ctrl_c.is_pressed.load(Ordering::SeqCst);
    Ok(if is_interrupted { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// A seed below 2⁵³: readers of JSON that have only f64 keep it exactly.
fn random_seed() -> u64 {
    rand::random::<u64>() >> 11
}

/// Prints the seed, unless the caller knows it.
fn report_seed(args: &Args, seed: u64) {
    if args.seed.is_none() {
        report(format_args!("seed {seed}"));
    }
}

/// The options that need no tokenizer.
fn plain_options(args: &Args, seed: u64) -> Options {
    let Args { choice, end, .. } = args;
    Options {
        max_tokens: end.max_tokens,
        temperature: choice.temperature,
        top_k: choice.top_k,
        top_p: choice.top_p,
        min_p: choice.min_p,
        typical_p: choice.typical_p,
        repetition_penalty: choice.repetition_penalty,
        frequency_penalty: choice.frequency_penalty,
        presence_penalty: choice.presence_penalty,
        logprobs: args.json,
        stop: end.stop.clone(),
        seed,
        ..Options::default()
    }
}

fn options(args: &Args, seed: u64, tokenizer: &Tokenizer, ends: &[u32]) -> anyhow::Result<Options> {
    let mut options = plain_options(args, seed);
    for bias in &args.choice.logit_bias {
        let malformed = || anyhow!("--logit-bias must be TOKEN=X, where X is a number (got {bias:?})");
        let (token, x) = bias.rsplit_once('=').ok_or_else(malformed).usage()?;
        let x = x.trim().parse().map_err(|_| malformed()).usage()?;
        options.logit_bias.insert(id_of(tokenizer, token).context("--logit-bias")?, x);
    }
    for token in &args.end.stop_token {
        options.stop_tokens.push(id_of(tokenizer, token).context("--stop-token")?);
    }
    if !args.end.ignore_eos {
        options.stop_tokens.extend(ends.iter().copied().chain(tokenizer.end_of_text()));
    }
    Ok(options)
}

/// The id of a token given as # and its id, as its text, or as its id alone where no token has that text.
fn id_of(tokenizer: &Tokenizer, token: &str) -> anyhow::Result<u32> {
    let n_tokens = tokenizer.vocab_size();
    let numbered = |id: &str| id.parse().ok().filter(|&id| usize::try_from(id).is_ok_and(|id| id < n_tokens));
    let by_id = token.strip_prefix('#').and_then(numbered);
    by_id.or_else(|| tokenizer.id_of(token)).or_else(|| numbered(token)).ok_or_else(|| {
        let n_tokens = plural(n_tokens, "token");
        UsageError::new(anyhow!(
            "{token:?} is neither a single token nor an id of this model, which has {n_tokens}"
        ))
        .into()
    })
}

fn encode(tokenizer: &Tokenizer, prompt: &str, special: bool) -> anyhow::Result<Vec<u32>> {
    let ids = if special { tokenizer.encode_special(prompt)? } else { tokenizer.encode(prompt)? };
    if ids.is_empty() {
        return Ok(beginning(tokenizer));
    }
    // BOS tokens that the prompt has are not added again.
    let before = if ids.starts_with(tokenizer.beginning()) { &[] } else { tokenizer.beginning() };
    Ok([before, &ids].concat())
}

/// Says where a prompt spells special tokens that are taken as ordinary text.
fn hint_at_special(tokenizer: &Tokenizer, prompt: &str, special: bool) {
    if let Some(token) = tokenizer.special_in(prompt).filter(|_| !special) {
        report(format_args!(
            "note: the prompt spells the special token {token}, which is read as plain text; --special reads it as the token"
        ));
    }
}

/// What it takes to generate text.
pub(crate) struct Writer<'a> {
    pub(crate) model: &'a Gpt,
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) options: &'a Options,
}

impl Writer<'_> {
    /// Generates the samples of these numbers, and shows them as they come. Those of the first group side by side have
    /// at least one token, even if nobody wants more from the start.
    pub(crate) fn write(
        &self,
        samples: Range<u64>,
        prompt: &[u32],
        shown: &mut Shown<'_>,
    ) -> anyhow::Result<Vec<Sample>> {
        let mut written = Vec::new();
        let mut first = samples.start;
        while first < samples.end {
            let end = samples.end.min(first + SIDE_BY_SIDE);
            written.extend(self.write_side_by_side(first..end, prompt, shown)?);
            if shown.is_over() {
                break;
            }
            first = end;
        }
        shown.finish()?;
        Ok(written)
    }

    fn write_side_by_side(
        &self,
        samples: Range<u64>,
        prompt: &[u32],
        shown: &mut Shown<'_>,
    ) -> anyhow::Result<Vec<Sample>> {
        let n = usize::try_from(samples.end - samples.start)?;
        let mut decoder = Decoder::new(self.model);
        let mut streams: Vec<_> = (0..n).map(|_| self.tokenizer.decode_stream_after(prompt)).collect();
        // Those that the decoder has sequences of; none before it has read the prompt, which is that of all.
        let mut decoded: Vec<usize> = Vec::new();
        shown.begin(n);
        // Tokens that the tokenizer does not know, as those that fill up a vocabulary, are never drawn.
        let n_tokens = self.tokenizer.vocab_size().min(self.model.config().vocab_size);
        let next_logits = |running: &[usize], unseen: &[&[u32]]| -> Result<Vec<Logits>, String> {
            let logits = if decoded.is_empty() {
                let logits = decoder.next_logits_of_each(&unseen[..1]);
                decoder.select(&vec![0; n]);
                decoded = (0..n).collect();
                logits.repeat_dim(0, n)
            } else {
                if decoded != running {
                    let place = |sample: &usize| decoded.iter().position(|decoded| decoded == sample);
                    decoder.select(&running.iter().filter_map(place).collect::<Vec<_>>());
                    decoded = running.to_vec();
                }
                decoder.next_logits_of_each(unseen)
            };
            next_logits::read(logits, n_tokens, self.options.n_best()).map_err(|error| format!("{error:?}"))
        };
        let samples = sampler::generate_batch(
            self.options,
            samples,
            prompt,
            |sample, id| streams[sample].push(id),
            next_logits,
            |sample, text| shown.text(sample, text),
        )?;
        shown.end();
        Ok(samples)
    }
}

/// What a text begins with: what the tokenizer puts before every one, the token that ends the one before it, or an empty
/// line.
pub(crate) fn beginning(tokenizer: &Tokenizer) -> Vec<u32> {
    if !tokenizer.beginning().is_empty() {
        return tokenizer.beginning().to_vec();
    }
    match tokenizer.end_of_text() {
        Some(id) => vec![id],
        None => tokenizer.encode("\n").unwrap_or_else(|_| vec![0]),
    }
}

/// Looks whether what the model keeps of the texts that are written side by side fits into memory.
fn check_memory(args: &Args, model: &Gpt, prompt: &[u32]) -> anyhow::Result<()> {
    if !args.model.is_on_cpu() {
        return Ok(());
    }
    let n_tokens = prompt.len().saturating_add(args.end.max_tokens);
    memory::check_texts(model.config(), args.samples.min(SIDE_BY_SIDE), n_tokens)
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

/// What Ctrl-C does: the first one after [`CtrlC::begin_samples`] ends the samples, any other ends kindling.
struct CtrlC {
    is_pressed: Arc<AtomicBool>,
    is_generating: Arc<AtomicBool>,
}

impl CtrlC {
    fn listen() -> anyhow::Result<Self> {
        let ctrl_c = Self { is_pressed: Arc::default(), is_generating: Arc::default() };
        let (is_pressed, is_generating) = (ctrl_c.is_pressed.clone(), ctrl_c.is_generating.clone());
        ctrlc::set_handler(move || {
            let is_second = is_pressed.swap(true, Ordering::SeqCst);
            if is_second || !is_generating.load(Ordering::SeqCst) {
                process::exit(INTERRUPTED.into());
            }
        })
        .context("cannot listen for Ctrl-C")?;
        Ok(ctrl_c)
    }

    fn begin_samples(&self) {
        self.is_pressed.store(false, Ordering::SeqCst);
        self.is_generating.store(true, Ordering::SeqCst);
    }

    fn end_samples(&self) {
        self.is_generating.store(false, Ordering::SeqCst);
    }
}

/// Asks for prompts until there are no more.
fn interact(writer: &Writer<'_>, args: &Args, ctrl_c: &CtrlC) -> anyhow::Result<ExitCode> {
    report_seed(args, writer.options.seed);
    report(format_args!("each line is a prompt; Ctrl-C ends a text, Ctrl-D ends kindling"));
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
        let prompt = match encode(writer.tokenizer, &line, args.prompt.special) {
            Ok(prompt) => prompt,
            Err(error) => {
                console::error(&error);
                continue;
            }
        };
        hint_at_special(writer.tokenizer, &line, args.prompt.special);
        warn_if_cropped(&prompt, writer.model.config().block_size);
        check_memory(args, writer.model, &prompt)?;
        let mut shown = Shown::stdout(&line).until(ctrl_c.is_pressed.clone());
        ctrl_c.begin_samples();
        // Each text has numbers of its own, so that the same prompt is continued differently.
        writer.write(next..next + args.samples, &prompt, &mut shown)?;
        ctrl_c.end_samples();
        next += args.samples;
    }
}
