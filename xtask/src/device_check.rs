//! `cargo xtask device-check`: the tests, the speed and a short training on a machine with a GPU and without Rust.

use std::num::NonZeroU64;
use std::path::PathBuf;

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
    Pack(PackArgs),
    Run(RunArgs),
}

/// Build the tests of the crates that compute and the program, and lay them into a folder with all that they read.
#[derive(Debug, clap::Args)]
pub(crate) struct PackArgs {
    /// Cargo features to build with, such as cuda
    #[arg(long, value_name = "FEATURE", value_delimiter = ',')]
    features: Vec<String>,

    /// Build as for users, which takes a build of its own, for speeds that count
    #[arg(long)]
    release: bool,

    /// The folder to make; without it, target/device-check
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

/// Run what is in a pack, one program after the other, and print one table. Nothing is built.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// What `device-check pack` made
    folder: PathBuf,

    /// What the tests take as `KINDLING_TEST_DEVICE` and the program as --device
    #[arg(long, default_value = "cpu")]
    device: String,

    /// Only this: a crate, `train`, `bench` or `compare`; may be given more than once
    #[arg(long, value_name = "CRATE")]
    only: Vec<String>,

    /// Recipes to measure; without it, nanogpt-gpu and gpt2, or tiny on a cpu
    #[arg(long = "bench", value_name = "RECIPE", value_delimiter = ',')]
    recipes: Vec<String>,

    /// A Python that has torch, to compare the speed of training with, as `cargo xtask bench train` does; it may take four times
    /// the --timeout
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,

    /// Recipes to train to their end, beside debug; nanogpt-gpu is to get below a loss of 1.47
    #[arg(long = "train", value_name = "RECIPE", value_delimiter = ',')]
    trained: Vec<String>,

    /// What a program may take before it is ended
    #[arg(long, value_name = "SECONDS", default_value = "900")]
    timeout: NonZeroU64,

    /// Also write all of it to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Pack(args) => pack::pack(args),
        Command::Run(args) => run::run(args),
    }
}

#[expect(clippy::print_stdout, reason = "what was run and how it went is what this command is for")]
fn say(text: &str) {
    println!("{text}");
}
