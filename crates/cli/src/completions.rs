//! `kindling completions` and the hidden `kindling man`.

use std::{fs, io, iter, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{
    Command,
    builder::{Resettable, StyledStr},
};
use clap_complete::Shell;
use clap_mangen::Man;

/// Prints a shell completion script.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  mkdir -p ~/.local/share/bash-completion/completions
  kindling completions bash > ~/.local/share/bash-completion/completions/kindling
  mkdir -p ~/.zfunc
  kindling completions zsh > ~/.zfunc/_kindling
  mkdir -p ~/.config/fish/completions
  kindling completions fish > ~/.config/fish/completions/kindling.fish")]
pub(crate) struct Args {
    /// Shell.
    shell: Shell,
}

/// `program` is the command-line definition of `kindling`.
pub(crate) fn run(args: Args, mut program: Command) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "kindling", &mut script);
    io::Write::write_all(&mut io::stdout(), &script)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a manual page for each command.
#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// Output folder.
    folder: PathBuf,
}

/// `program` is the command-line definition of `kindling`.
pub(crate) fn man(args: ManArgs, mut program: Command) -> anyhow::Result<ExitCode> {
    let folder = args.folder;
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    program.build();
    let shown = |command: &&Command| !command.is_hide_set() && command.get_name() != "help";
    for command in iter::once(&program).chain(program.get_subcommands().filter(shown)) {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        let path = folder.join(format!("{name}.1"));
        fs::write(&path, page(command)?).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A manual page. The text after the options, mostly examples, keeps its line breaks.
fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    Man::new(command.clone().after_help(Resettable::<StyledStr>::Reset)).render(&mut page)?;
    if !after.is_empty() {
        page.extend_from_slice(b".SH NOTES\n.nf\n");
        for line in after.lines() {
            // At the start of a line, a dot or a quote begins a roff request.
            let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
            let line = line.replace('\\', "\\e").replace('-', "\\-");
            page.extend_from_slice(format!("{guard}{line}\n").as_bytes());
        }
        page.extend_from_slice(b".fi\n");
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn a_page_keeps_the_line_breaks_of_the_examples() {
        let mut program = crate::Args::command();
        program.build();
        let train = program.find_subcommand("train").unwrap();
        let page = String::from_utf8(page(train).unwrap()).unwrap();
        let examples = page.split(".nf").nth(1).unwrap();
        assert!(examples.contains("\n  kindling train my.txt \\-\\-run mine"), "{page}");
        assert!(page.contains(".TH kindling"), "{page}");
    }
}
