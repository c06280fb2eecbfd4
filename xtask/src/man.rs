//! `cargo xtask man`: manual pages.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

/// Write a manual page for each kindling command, for packages to install.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Output folder
    #[arg(default_value = "target/man")]
    folder: PathBuf,
}

#[expect(clippy::print_stderr, reason = "progress goes to stderr")]
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    // kindling writes the pages itself: linking its commands into xtask would build its dependencies twice.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "-p", "cli", "--", "man"]).arg(&args.folder);
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("kindling did not write the manual pages: {status}");
    }
    eprintln!("wrote the manual pages to {}", args.folder.display());
    Ok(())
}
