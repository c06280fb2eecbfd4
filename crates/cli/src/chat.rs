//! `kindling chat`.

mod conversation;
mod entry;
mod lines;
mod session;

use std::process::ExitCode;

use ::chat::Template;
use anyhow::{Context, anyhow};
use console::{program, report};
use engine::{Model, Source};
use sampler::Options;

use self::{
    conversation::Conversation,
    entry::{COMMANDS, Entry},
    lines::Lines,
    session::Session,
};
use crate::{
    ctrl_c::{CtrlC, INTERRUPTED},
    kv_cache_args::KvCacheArgs,
    model_args::{ModelArgs, WeightsArgs},
    sampling_args::{PromptLookupArgs, SamplingArgs, report_seed, seed_or_random},
    usage::{ResultExt, at_least},
};

/// Talks with a chat model: each line is a message, and the model answers with the whole conversation in view.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The model needs a chat template, as models tuned for conversations have. Others continue a text:
kindling generate -i.

Commands:
  /system TEXT  set the system message; without TEXT, show it
  /reset        forget the conversation; the system message stays
  /help         list the commands
  /quit         quit, as Ctrl-D does
  //TEXT        send a message that starts with /

Ctrl-C stops an answer, and the conversation continues. When the conversation gets longer than the
block size of the model, its oldest messages are dropped. Without a terminal, each line of standard
input is a message, and stdout has the answers only.

Examples:
  kindling chat smollm2.gguf
  kindling chat smollm2.gguf --system 'Answer in one sentence.' --temperature 0
  printf 'Hello!\\nAnd again.\\n' | kindling chat smollm2.gguf"
)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    weights: WeightsArgs,

    /// System message: instructions for the whole conversation.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,

    /// Stop an answer after N tokens.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 500,
        allow_negative_numbers = true,
        value_parser = at_least(1_usize)
    )]
    max_tokens: usize,

    /// Random seed; the same seed gives the same answers. Without it, a random one is used and printed.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = at_least(0_u64))]
    seed: Option<u64>,

    #[command(flatten)]
    sampling: SamplingArgs,

    #[command(flatten)]
    prompt_lookup: PromptLookupArgs,

    #[command(flatten)]
    kv_cache: KvCacheArgs,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let seed = seed_or_random(args.seed);
    let options = Options { max_tokens: args.max_tokens, seed, ..args.sampling.plain_options() };
    // Check the options before loading a model.
    options.check().usage()?;
    let (source, mut model) = args.model.load(&args.weights)?;
    model.gpt = args.kv_cache.apply(model.gpt)?;
    let template = template(&source, &model)?;
    let eos = model.special_tokens.eos.iter().copied().chain(model.tokenizer.end_of_text());
    let options = Options {
        logit_bias: args.sampling.logit_bias(&model.tokenizer)?,
        stop_tokens: eos.collect(),
        ..options
    };
    options.check().usage()?;
    let ctrl_c = CtrlC::listen()?;
    let mut lines = Lines::open()?;
    report_seed(args.seed, seed);
    if lines.is_terminal() {
        report(format_args!(
            "each line is a message; Ctrl-C stops an answer, Ctrl-D quits, /help lists commands"
        ));
    }
    let conversation = Conversation::new(args.system.clone());
    let mut session = Session::new(&model, template, options, conversation, args.model.is_on_cpu());
    session.prompt_lookup = args.prompt_lookup.n_max();
    talk(session, &mut lines, &ctrl_c)
}

/// The chat template of a model.
fn template(source: &Source, model: &Model) -> anyhow::Result<Template> {
    let Model { tokenizer, special_tokens, .. } = model;
    let text = special_tokens.companions.chat_template().ok_or_else(|| {
        anyhow!(
            "{source} has no chat template, so it was not tuned for conversations; continue a text with {} generate -i",
            program()
        )
    })?;
    Template::new(text, &special_tokens.texts(tokenizer))
        .with_context(|| format!("cannot chat with {source}"))
}

/// Answers messages and runs commands until the end of input.
fn talk(mut session: Session<'_>, lines: &mut Lines, ctrl_c: &CtrlC) -> anyhow::Result<ExitCode> {
    while let Some(line) = lines.read()? {
        match Entry::parse(&line) {
            Entry::Nothing => {}
            Entry::Message(message) => match session.prompt(message) {
                Ok(prompt) => {
                    session.answer(prompt, ctrl_c)?;
                    if ctrl_c.is_pressed() && !lines.is_terminal() {
                        return Ok(ExitCode::from(INTERRUPTED));
                    }
                }
                // The user can send another message.
                Err(error) if lines.is_terminal() => console::error(&error),
                Err(error) => return Err(error),
            },
            Entry::Reset => {
                session.conversation.reset();
                report(format_args!("the conversation is empty"));
            }
            Entry::ShowSystem => match session.conversation.system() {
                Some(system) => report(format_args!("system message: {system}")),
                None => report(format_args!("there is no system message; /system TEXT sets it")),
            },
            Entry::SetSystem(system) => {
                session.conversation.set_system(system);
                report(format_args!("the system message is set, from the next answer on"));
            }
            Entry::Help => report(format_args!("{COMMANDS}")),
            Entry::Quit => break,
            Entry::Unknown(command) => console::warn(format_args!(
                "unknown command {command}; commands are /system, /reset, /help and /quit; // sends a message that \
                 starts with /"
            )),
        }
    }
    Ok(ExitCode::SUCCESS)
}
