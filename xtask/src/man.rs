//! `cargo xtask man`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

/// Writes a manual page for each command of the program, for a package to install.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder they go to.
    #[arg(default_value = "target/man")]
    folder: PathBuf,
}

#[expect(clippy::print_stderr, reason = "a person reads this")]
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    // The program knows its own commands, and building it here as well would be a second build of all it needs.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "-p", "cli", "--", "man"]).arg(&args.folder);
    let status = command.status().context("start cargo")?;
    if !status.success() {
        bail!("the program did not write its pages: {status}");
    }
    eprintln!("wrote the pages to {}", args.folder.display());
    Ok(())
}
