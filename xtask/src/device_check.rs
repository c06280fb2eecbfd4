//! `cargo xtask device-check`: tests, benchmarks and a short training run on a GPU machine without Rust.

mod check;
mod compare;
mod libtest;
mod manifest;
mod pack;
mod program;
mod report;
mod run;

/// Build tests here and run them on a machine with a GPU, which needs neither Rust nor a network.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask device-check pack --features cuda --output gpu-pack    on the machine with Rust
  gpu-pack/xtask device-check run gpu-pack --device cuda             on the machine with the GPU")]
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
