//! `kindling`: trains GPT language models on your own text and generates text with them.
//!
//! The crate parses arguments, calls the libraries and returns an exit code. 0 is success, 1 failure, 2 an
//! invalid argument (found by clap, or marked by [`usage`]). 129, 130 and 143 mean that a signal stopped a run, which can
//! be resumed; 130 also means that Ctrl-C ended `generate` or `chat`. Results go to stdout, messages to stderr.

mod allocator;
mod bench;
mod chat;
mod completions;
mod ctrl_c;
mod data;
mod device;
mod eval;
mod evaluation_text;
mod export;
mod file_type;
mod generate;
#[cfg(feature = "grammar")]
mod grammar_args;
mod hub;
mod import;
mod info;
mod key_tips;
mod kv_cache_args;
mod memory;
mod merge;
mod model_args;
mod modelfile;
mod plan;
mod plot;
mod prepare;
mod presets;
mod probe;
mod quantize;
mod recipe;
mod runs;
mod sample_printer;
mod sampling_args;
mod score;
#[cfg(feature = "serve")]
mod serve;
mod signals;
mod train;
mod usage;

use std::{env, io, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};
use console::Events;
use tracing_subscriber::EnvFilter;

use crate::key_tips::with_key_tip;

/// Train small and mid-size GPT language models on your own text and generate text with them.
#[derive(Parser)]
#[command(name = "kindling", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Examples:
  kindling train                             train on Shakespeare, a few minutes
  kindling generate --prompt 'ROMEO:'        generate with the newest run
  kindling train --data my.txt --run mine    train on your own text")]
struct Args {
    /// Print only warnings and errors to stderr.
    #[arg(long, short, global = true)]
    quiet: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a model, or resume training.
    Train(train::Args),
    /// Generate text with a model.
    Generate(generate::Args),
    /// Talk with a chat model.
    Chat(chat::Args),
    /// Serve models over HTTP for OpenAI clients, with a page to try them.
    #[cfg(feature = "serve")]
    Serve(serve::Args),
    /// Measure how well a model predicts a text: loss, perplexity, bits per byte.
    Eval(eval::Args),
    /// Print the log-probability of each token of a text.
    Score(score::Args),
    /// Show the architecture, tokenizer and training of a model.
    Info(info::Args),
    /// Import a model from a folder, a GGUF file, nanoGPT's ckpt.pt or the Hugging Face hub.
    Import(import::Args),
    /// Export a model for other programs, as safetensors or GGUF.
    Export(export::Args),
    /// Merge a LoRA adapter into its base model.
    Merge(merge::Args),
    /// Quantise a model to a GGUF file and measure what it costs: size, perplexity, KL divergence.
    Quantize(quantize::Args),
    /// Measure the speed of training, prefill and decode.
    Bench(bench::Args),
    /// List runs with their size, progress and best loss.
    Runs(runs::Args),
    /// Plot the losses of a run, or compare several runs.
    Plot(plot::Args),
    /// List the built-in recipes.
    Presets(presets::Args),
    /// Check chat data.
    Data(data::Args),
    /// Print a shell completion script.
    Completions(completions::Args),
    /// Write a manual page for each command.
    #[command(hide = true)]
    Man(completions::ManArgs),
}

fn main() -> ExitCode {
    allocator::configure();
    let args = Args::try_parse();
    let args = args.unwrap_or_else(|error| with_key_tip(error, env::args_os()).exit());
    if args.quiet {
        console::set_quiet();
    }
    let default_events = if args.quiet { "warn" } else { "warn,serve=info" }; // The requests of a server.
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_events)))
        .with_writer(Events)
        .with_ansi(false)
        .with_level(false)
        .without_time()
        .with_target(false)
        .init();
    let result = match args.command {
        Command::Train(args) => train::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Chat(args) => chat::run(args),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Score(args) => score::run(args),
        Command::Info(args) => info::run(args),
        Command::Import(args) => import::run(args),
        Command::Export(args) => export::run(args),
        Command::Merge(args) => merge::run(args),
        Command::Quantize(args) => quantize::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Runs(args) => runs::run(args),
        Command::Plot(args) => plot::run(args),
        Command::Presets(args) => presets::run(args),
        Command::Data(args) => data::run(args),
        Command::Completions(args) => completions::run(args, Args::command()),
        Command::Man(args) => completions::man(args, Args::command()),
    };
    match result {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS, // `kindling generate | head`
        Err(error) => {
            console::error(&error);
            usage::exit_code(&error)
        }
    }
}

/// Whether the reader of stdout has closed the pipe, which is not an error.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}
