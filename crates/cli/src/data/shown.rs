//! An example with its mask in colours.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use ::chat::Example;
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use console::{escaped, report};
use journal::summary::plural;
use tokenizer::Tokenizer;
use trainer::RunData;

const TRAINED: Style = AnsiColor::Green.on_default();
const CONTEXT: Style = Style::new().dimmed();

/// Tokens that are shown.
const N_TOKENS_MAX: usize = 1000;

/// Prints an example to stdout, after its place.
pub(super) fn write(tokenizer: &Tokenizer, place: &str, example: &Example) -> io::Result<()> {
    let text = text(tokenizer, example, AutoStream::choice(&io::stdout()));
    writeln!(anstream::stdout().lock(), "\n{place}:\n\n{text}")
}

/// Reports the first example of a run on conversations, or the first pair of preference tuning.
pub(crate) fn report_first(data: &RunData) {
    match data {
        RunData::Text(_) => {}
        RunData::Chats(chats) => {
            if let Some((place, example)) = &chats.summary.first {
                report_example(chats.format.tokenizer(), place, example);
            }
        }
        RunData::Preferences(pairs) => {
            if let Some((place, pair)) = &pairs.summary.first {
                for (name, example) in ["chosen", "rejected"].into_iter().zip(pair) {
                    report_example(pairs.format.tokenizer(), &format!("{place}, {name}"), example);
                }
            }
        }
    }
}

fn report_example(tokenizer: &Tokenizer, place: &str, example: &Example) {
    let choice = AutoStream::choice(&io::stderr());
    let trained = match choice {
        ColorChoice::Never => "between \u{27E6} and \u{27E7}",
        _ => "green",
    };
    let text = text(tokenizer, example, choice);
    report(format_args!("{place}, with the trained text {trained}:\n\n{text}\n"));
}

/// The text of an example. Trained text is green, or in brackets without colours.
fn text(tokenizer: &Tokenizer, example: &Example, choice: ColorChoice) -> String {
    let n_shown = example.ids.len().min(N_TOKENS_MAX);
    let mut out = String::new();
    let mut rest = &example.ids[..n_shown];
    for run in example.trained[..n_shown].chunk_by(|left, right| left == right) {
        let ids;
        (ids, rest) = rest.split_at(run.len());
        let text = tokenizer.decode(ids);
        let text = escaped(&text);
        match (run[0], choice) {
            (true, ColorChoice::Never) => write!(out, "\u{27E6}{text}\u{27E7}"),
            (false, ColorChoice::Never) => write!(out, "{text}"),
            (true, _) => write!(out, "{TRAINED}{text}{TRAINED:#}"),
            (false, _) => write!(out, "{CONTEXT}{text}{CONTEXT:#}"),
        }
        .expect("strings grow");
    }
    match example.ids.len() - n_shown {
        0 => out,
        n_more => out + &format!("\n... and {}", plural(n_more, "more token")),
    }
}
