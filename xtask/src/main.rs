//! Commands for working on Kindling, one file each.

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod chats;
mod ci;
mod common;
mod cuda_dry_run;
mod cycles;
mod device_check;
mod man;
mod prepare_data;
mod prose;
mod speedrun;

/// Commands for working on Kindling.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Bench(bench::Args),
    Chats(chats::Args),
    Ci(ci::Args),
    CudaDryRun(cuda_dry_run::Args),
    Cycles(cycles::Args),
    DeviceCheck(device_check::Args),
    Man(man::Args),
    PrepareData(prepare_data::Args),
    Prose(prose::Args),
    Speedrun(speedrun::Args),
}

#[expect(clippy::print_stderr, reason = "the one place that prints errors")]
fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt().with_writer(io::stderr).without_time().with_target(false).init();
    let done = match args.command {
        Command::Bench(args) => bench::run(&args),
        Command::Chats(args) => chats::run(&args),
        Command::Ci(args) => ci::run(&args),
        Command::CudaDryRun(args) => cuda_dry_run::run(&args),
        Command::Cycles(args) => cycles::run(&args),
        Command::DeviceCheck(args) => device_check::run(&args),
        Command::Man(args) => man::run(&args),
        Command::PrepareData(args) => prepare_data::run(&args),
        Command::Prose(args) => prose::run(&args),
        Command::Speedrun(args) => speedrun::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
