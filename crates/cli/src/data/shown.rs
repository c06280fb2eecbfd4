//! An example with its mask in colours.

use std::io::{self, Write};

use ::chat::Example;
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use console::escaped;
use journal::summary::plural;
use tokenizer::Tokenizer;

const TRAINED: Style = AnsiColor::Green.on_default();
const CONTEXT: Style = Style::new().dimmed();

/// Tokens that are shown.
const N_TOKENS_MAX: usize = 1000;

/// Prints the text of an example to stdout. Trained text is green, or in brackets if stdout has no colours.
pub(crate) fn write(tokenizer: &Tokenizer, place: &str, example: &Example) -> io::Result<()> {
    let has_colours = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
    let n_shown = example.ids.len().min(N_TOKENS_MAX);
    let mut out = anstream::stdout().lock();
    writeln!(out, "\n{place}:\n")?;
    let mut rest = &example.ids[..n_shown];
    for run in example.trained[..n_shown].chunk_by(|left, right| left == right) {
        let ids;
        (ids, rest) = rest.split_at(run.len());
        let text = tokenizer.decode(ids);
        let text = escaped(&text);
        match (run[0], has_colours) {
            (true, true) => write!(out, "{TRAINED}{text}{TRAINED:#}")?,
            (true, false) => write!(out, "\u{27E6}{text}\u{27E7}")?,
            (false, true) => write!(out, "{CONTEXT}{text}{CONTEXT:#}")?,
            (false, false) => write!(out, "{text}")?,
        }
    }
    match example.ids.len() - n_shown {
        0 => writeln!(out),
        n_more => writeln!(out, "\n... and {}", plural(n_more, "more token")),
    }
}
