//! `kindling`: trains GPT language models on your own text and writes with them.
//!
//! Arguments to library calls to an exit code, and nothing else: 0 for success, 1 for failure, 2 for
//! arguments that can't be understood (clap finds most, [`usage`] marks the others), 130 or 143 for a run that was
//! stopped and can be resumed, 130 for samples that Ctrl-C ended. Text goes to stdout and nothing else does; the rest goes to stderr.

mod allocator;
mod bench;
mod completions;
mod ctrl_c;
mod device;
mod eval;
mod export;
mod generate;
mod hub;
mod import;
mod info;
mod key_tips;
mod memory;
mod model_args;
mod plan;
mod plot;
mod prepare;
mod presets;
mod probe;
mod recipe;
mod runs;
mod score;
mod shown;
mod signals;
mod train;
mod usage;

use std::{env, io, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};
use console::Events;
use tracing_subscriber::EnvFilter;

use crate::key_tips::with_key_tip;

/// The exit code for arguments that can't be understood, which is clap's too.
const USAGE: u8 = 2;

/// Train small and mid-size GPT language models on your own text and write with them.
#[derive(Parser)]
#[command(name = "kindling", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Examples:
  kindling train                             learn Shakespeare in a few minutes
  kindling generate --prompt 'ROMEO:'        write with the newest run
  kindling train --data my.txt --run mine    learn from your own text")]
struct Args {
    /// Print only warnings and errors, besides what goes to stdout.
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
    /// Measure how well a model predicts a text: loss, perplexity, bits per byte.
    Eval(eval::Args),
    /// Print the log-probability of each token of a text.
    Score(score::Args),
    /// Show what a model is and what it was trained on.
    Info(info::Args),
    /// Make a run of a model from elsewhere: a folder, nanoGPT's ckpt.pt, the Hugging Face hub.
    Import(import::Args),
    /// Export a model for other programs, as safetensors or GGUF.
    Export(export::Args),
    /// Measure the speed of training, of reading a prompt and of writing.
    Bench(bench::Args),
    /// List runs with their size, progress and best loss.
    Runs(runs::Args),
    /// Plot the losses of a run, or compare several runs.
    Plot(plot::Args),
    /// List the recipes that come with the program.
    Presets(presets::Args),
    /// Print what a shell needs to complete commands and options.
    Completions(completions::Args),
    /// Write a manual page for each command.
    #[command(hide = true)]
    Man(completions::ManArgs),
}

fn main() -> ExitCode {
    let args = Args::try_parse();
    let args = args.unwrap_or_else(|error| with_key_tip(error, env::args_os()).exit());
    if args.quiet {
        console::set_quiet();
    }
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn")))
        .with_writer(Events)
        .with_ansi(false)
        .with_level(false)
        .without_time()
        .with_target(false)
        .init();
    let result = match args.command {
        Command::Train(args) => train::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Score(args) => score::run(args),
        Command::Info(args) => info::run(args),
        Command::Import(args) => import::run(args),
        Command::Export(args) => export::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Runs(args) => runs::run(args),
        Command::Plot(args) => plot::run(args),
        Command::Presets(args) => presets::run(args),
        Command::Completions(args) => completions::run(args, Args::command()),
        Command::Man(args) => completions::man(args, Args::command()),
    };
    match result {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS, // `kindling generate | head`
        Err(error) => {
            console::error(&error);
            if usage::is_usage_error(&error) { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

/// Whether the reader of our output has gone, which is its right.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}
