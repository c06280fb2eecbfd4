//! Lines of input, from a terminal with editing and history, or from standard input.

use std::io::{self, IsTerminal};

use anyhow::Context;
use rustyline::{Behavior, Config, DefaultEditor, error::ReadlineError};

pub(super) enum Lines {
    Terminal(Box<DefaultEditor>),
    Piped(io::Lines<io::StdinLock<'static>>),
}

impl Lines {
    pub(super) fn open() -> anyhow::Result<Self> {
        if !io::stdin().is_terminal() {
            return Ok(Self::Piped(io::stdin().lines()));
        }
        // The prompt goes to the terminal even if stdout does not.
        let config = Config::builder().behavior(Behavior::PreferTerm).build();
        let editor = DefaultEditor::with_config(config).context("cannot open the terminal")?;
        Ok(Self::Terminal(Box::new(editor)))
    }

    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// The next line; `None` at the end of input.
    pub(super) fn read(&mut self) -> anyhow::Result<Option<String>> {
        let editor = match self {
            Self::Terminal(editor) => editor,
            Self::Piped(lines) => return lines.next().transpose().context("cannot read standard input"),
        };
        loop {
            match editor.readline("> ") {
                Ok(line) => {
                    editor.add_history_entry(&line).context("cannot add the message to the history")?;
                    return Ok(Some(line));
                }
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => return Ok(None),
                Err(error) => return Err(error).context("cannot read a message"),
            }
        }
    }
}
