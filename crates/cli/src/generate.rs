//! `kindling generate`.

use std::{
    io::{self, Write},
    ops::Range,
    path::{Path, PathBuf},
    process::{self, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context;
use model::{Decoder, Gpt, window_start};
use rustyline::{DefaultEditor, error::ReadlineError};
use sampler::{Logits, Options, Sample};
use serde::Serialize;
use tokenizer::Tokenizer;

use crate::{
    console::{self, report, warn},
    eval::read_text,
    memory,
    model_folder::{ModelArgs, Opened},
    next_logits,
    shown::Shown,
};

/// Writes text with a model.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Samples are written side by side and shown one after the other. What is filtered is what is
left after penalties, bias and temperature.

Examples:
  kindling generate --prompt 'ROMEO:'
  kindling generate runs/tiny --prompt 'To be' --temperature 0        always the most probable token
  kindling generate --samples 3 --max-tokens 100 --seed 1 --json
  cat chapter.txt | kindling generate --prompt-file -                 go on with a text
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

    /// The same seed gives the same text; without it, each call gives another.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// How many texts to write.
    #[arg(long, value_name = "N", default_value_t = 1)]
    samples: u64,

    /// Print one JSON object when all is written, without the prompt.
    #[arg(long, conflicts_with = "interactive")]
    json: bool,
}

/// What to go on from.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Prompt")]
struct PromptArgs {
    /// The text to go on from; without it, the beginning of a text.
    #[arg(long, conflicts_with_all = ["prompt_file", "interactive"])]
    prompt: Option<String>,

    /// A file with the text to go on from; - is what comes in.
    #[arg(long, value_name = "FILE", conflicts_with = "interactive")]
    prompt_file: Option<PathBuf>,

    /// Ask for a prompt, write, and ask for the next; each is a text of its own.
    #[arg(short, long)]
    interactive: bool,

    /// Take special tokens such as <|endoftext|> in a prompt as what they are, not as their characters.
    #[arg(long)]
    special: bool,
}

/// How the next token is chosen.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Choice of the next token")]
struct ChoiceArgs {
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

    /// Choose among the most typical tokens that have P of the probability together: those as surprising as one
    /// expects.
    #[arg(long, value_name = "P")]
    typical_p: Option<f32>,

    /// Make tokens that occurred less probable, those of the prompt too; 1 is off.
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    repetition_penalty: f32,

    /// Take this off a token's logit for each time it was written; 0 is off.
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    frequency_penalty: f32,

    /// Take this off a token's logit once it was written; 0 is off.
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f32,

    /// Add X to the logit of a token, named by its text, or by # and its id; may be given several times.
    #[arg(long, value_name = "TOKEN=X")]
    logit_bias: Vec<String>,
}

/// When a text ends.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "End of a text")]
struct EndArgs {
    /// Stop after this many tokens.
    #[arg(long, value_name = "N", default_value_t = 500)]
    max_tokens: usize,

    /// Stop at this string, which is left out; may be given several times.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,

    /// Stop at this token, named by its text, or by # and its id, and left out; may be given several times.
    #[arg(long, value_name = "TOKEN")]
    stop_token: Vec<String>,

    /// Do not stop at the end of a text: write on into the next.
    #[arg(long)]
    ignore_eos: bool,
}

#[derive(Debug, Serialize)]
struct Samples {
    samples: Vec<Sample>,
}

/// The exit code of a program that a signal ended.
const INTERRUPTED: i32 = 130;

/// Samples that are written side by side, at most.
const SIDE_BY_SIDE: u64 = 8;

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let seed = args.seed.unwrap_or_else(rand::random);
    // What is wrong with an option is said before a model is read.
    plain_options(&args, seed).check()?;
    let given = match &args.prompt {
        PromptArgs { prompt: Some(text), .. } => text.clone(),
        PromptArgs { prompt_file: Some(path), .. } => read_prompt(path)?,
        PromptArgs { .. } => String::new(),
    };
    let Opened { source, model, tokenizer } = args.model.open()?;
    let options = options(&args, seed, &tokenizer, &source.marks().ends)?;
    options.check()?;
    let writer = Writer { model: &model, tokenizer: &tokenizer, options: &options };
    if args.prompt.interactive {
        return interact(&writer, &args);
    }
    let prompt = encode(&tokenizer, &given, args.prompt.special)?;
    warn_if_cropped(&prompt, model.config().block_size);
    check_memory(&args, &model, &prompt)?;
    if args.json {
        let samples = writer.write(0..args.samples, &prompt, &mut Shown::nothing())?;
        writeln!(io::stdout(), "{}", serde_json::to_string(&Samples { samples })?)?;
    } else {
        writer.write(0..args.samples, &prompt, &mut Shown::new(&given, Box::new(io::stdout())))?;
    }
    Ok(ExitCode::SUCCESS)
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
        let named = || format!("--logit-bias {bias} is not of the form TOKEN=X, where X is a number");
        let (token, x) = bias.rsplit_once('=').with_context(named)?;
        options.logit_bias.insert(id_of(tokenizer, token)?, x.trim().parse().with_context(named)?);
    }
    for token in &args.end.stop_token {
        options.stop_tokens.push(id_of(tokenizer, token)?);
    }
    if !args.end.ignore_eos {
        options.stop_tokens.extend(ends.iter().copied().chain(tokenizer.end_of_text()));
    }
    Ok(options)
}

/// The token that somebody names: by # and its id, by its text, or by its id alone where no token has that text.
fn id_of(tokenizer: &Tokenizer, token: &str) -> anyhow::Result<u32> {
    let n_tokens = tokenizer.vocab_size();
    let numbered = |id: &str| id.parse().ok().filter(|&id| usize::try_from(id).is_ok_and(|id| id < n_tokens));
    let by_id = token.strip_prefix('#').and_then(numbered);
    by_id.or_else(|| tokenizer.id_of(token)).or_else(|| numbered(token)).with_context(|| {
        format!("{token:?} is neither one token of this model nor the number of one of its {n_tokens}")
    })
}

fn read_prompt(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        return io::read_to_string(io::stdin()).context("read the prompt that comes in");
    }
    read_text(path)
}

fn encode(tokenizer: &Tokenizer, prompt: &str, special: bool) -> anyhow::Result<Vec<u32>> {
    let ids = if special { tokenizer.encode_special(prompt)? } else { tokenizer.encode(prompt)? };
    if ids.is_empty() {
        return Ok(beginning(tokenizer));
    }
    // A mark that stands in the prompt is not put there again.
    let before = if ids.starts_with(tokenizer.beginning()) { &[] } else { tokenizer.beginning() };
    Ok([before, &ids].concat())
}

/// What it takes to write.
pub(crate) struct Writer<'a> {
    pub(crate) model: &'a Gpt,
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) options: &'a Options,
}

impl Writer<'_> {
    /// Writes the samples of these numbers, and shows them as they come.
    pub(crate) fn write(
        &self,
        samples: Range<u64>,
        prompt: &[u32],
        shown: &mut Shown<'_>,
    ) -> anyhow::Result<Vec<Sample>> {
        let mut written = Vec::new();
        let mut first = samples.start;
        while first < samples.end && !shown.is_over() {
            let end = samples.end.min(first + SIDE_BY_SIDE);
            written.extend(self.write_side_by_side(first..end, prompt, shown)?);
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
            "the prompt has {} tokens and the model sees {block_size}; its first {dropped} are left out",
            prompt.len()
        ));
    }
}

/// Asks for prompts until there are no more.
fn interact(writer: &Writer<'_>, args: &Args) -> anyhow::Result<ExitCode> {
    let stopped = Arc::new(AtomicBool::new(false));
    let writing = Arc::new(AtomicBool::new(false));
    let (stop, is_writing) = (stopped.clone(), writing.clone());
    ctrlc::set_handler(move || match is_writing.load(Ordering::SeqCst) {
        true => stop.store(true, Ordering::SeqCst),
        false => process::exit(INTERRUPTED),
    })
    .context("listen for Ctrl-C")?;
    report(format_args!("each line is a prompt; Ctrl-C ends a text, Ctrl-D all"));
    let mut editor = DefaultEditor::new().context("open the terminal")?;
    let mut next = 0;
    loop {
        let line = match editor.readline("> ") {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(ExitCode::SUCCESS),
            Err(error) => return Err(error).context("read a prompt"),
        };
        editor.add_history_entry(&line).context("remember a prompt")?;
        stopped.store(false, Ordering::SeqCst);
        let prompt = match encode(writer.tokenizer, &line, args.prompt.special) {
            Ok(prompt) => prompt,
            Err(error) => {
                console::error(&error);
                continue;
            }
        };
        warn_if_cropped(&prompt, writer.model.config().block_size);
        check_memory(args, writer.model, &prompt)?;
        let mut shown = Shown::new(&line, Box::new(io::stdout())).until(stopped.clone());
        // Each text has numbers of its own, so that the same prompt goes on differently.
        writing.store(true, Ordering::SeqCst);
        writer.write(next..next + args.samples, &prompt, &mut shown)?;
        writing.store(false, Ordering::SeqCst);
        next += args.samples;
    }
}
