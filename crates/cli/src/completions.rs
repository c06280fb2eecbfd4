//! `kindling completions` and the hidden `kindling man`.

use std::{fs, io, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

/// Prints what a shell needs to complete commands and options.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kindling completions bash > ~/.local/share/bash-completion/completions/kindling
  kindling completions zsh > ~/.zfunc/_kindling
  kindling completions fish > ~/.config/fish/completions/kindling.fish")]
pub(crate) struct Args {
    /// Which shell.
    shell: Shell,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::Args::command(), "kindling", &mut script);
    io::Write::write_all(&mut io::stdout(), &script)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a manual page for each command.
#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// The folder they go to.
    folder: PathBuf,
}

pub(crate) fn man(args: ManArgs) -> anyhow::Result<ExitCode> {
    let folder = args.folder;
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    clap_mangen::generate_to(crate::Args::command(), &folder)
        .with_context(|| format!("write to {}", folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
