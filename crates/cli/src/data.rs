//! `kindling data`.

mod check;
mod preferences;
pub(crate) mod shown;

use std::process::ExitCode;

/// Checks data for training.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kindling data check chats.jsonl                  with GPT-2's tokenizer and ChatML
  kindling data check chats.jsonl --block-size 64  count conversations that are cut or dropped")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Check conversations or preferences: count them and their tokens, and show the trained part of one.
    Check(check::Args),
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Check(args) => check::run(args),
    }
}
