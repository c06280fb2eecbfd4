//! `cargo xtask device-check`: the tests, the speed and a short training on a machine with a GPU and without Rust.

mod check;
mod compare;
mod libtest;
mod manifest;
mod pack;
mod program;
mod report;
mod run;

/// Take tests that were built here to a machine with a GPU, which needs neither Rust nor a network, and run them there.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask device-check pack --features cuda --output gpu-pack    here
  gpu-pack/xtask device-check run gpu-pack --device cuda             there")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Pack(pack::Args),
    Run(run::Args),
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Pack(args) => pack::pack(args),
        Command::Run(args) => run::run(args),
    }
}
