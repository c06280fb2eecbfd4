//! Prints samples to stdout in order, while they are generated side by side.

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
};

use console::escaped;
use engine::Piece;

/// Printed between samples.
const SEPARATOR: &str = "---------------";

/// Prints the first incomplete sample as it is generated, and buffers the samples after it.
pub(crate) struct SamplePrinter<'a> {
    prompt: &'a str,
    /// `None` prints nothing.
    out: Option<Box<dyn Write + 'a>>,
    /// A terminal would interpret control characters, so they are escaped.
    is_terminal: bool,
    /// Index of the sample that is being printed.
    current: usize,
    is_complete: bool,
    /// Buffered text of the samples after `current`, and whether each is complete.
    waiting: Vec<(String, bool)>,
    failure: Option<io::Error>,
}

impl<'a> SamplePrinter<'a> {
    /// Prints to stdout, with the prompt before each sample.
    pub(crate) fn stdout(prompt: &'a str) -> Self {
        Self::new(prompt, Some(Box::new(io::stdout())), io::stdout().is_terminal())
    }

    /// Prints nothing.
    pub(crate) fn silent() -> Self {
        Self::new("", None, false)
    }

    /// Prints control characters as escapes to a terminal, and unchanged to anything else.
    fn new(prompt: &'a str, out: Option<Box<dyn Write + 'a>>, is_terminal: bool) -> Self {
        let waiting = Vec::new();
        Self { prompt, out, is_terminal, current: 0, is_complete: false, waiting, failure: None }
    }

    /// Prints the prompt of the first sample.
    pub(crate) fn begin(&mut self) {
        self.print(self.prompt);
    }

    /// Prints or buffers the next piece of a sample.
    pub(crate) fn print_piece(&mut self, Piece { sample, text, stopped_by }: Piece) {
        match sample.checked_sub(self.current + 1) {
            None => {
                self.print(&text);
                self.is_complete |= stopped_by.is_some();
            }
            Some(idx) => {
                self.waiting.resize_with(self.waiting.len().max(idx + 1), Default::default);
                let (waiting, is_complete) = &mut self.waiting[idx];
                waiting.push_str(&text);
                *is_complete |= stopped_by.is_some();
            }
        }
        while self.is_complete && !self.waiting.is_empty() {
            self.print_next();
        }
    }

    /// Whether writing has failed, such as after the reader closed the pipe.
    pub(crate) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Prints the buffered samples, complete or not, and a final line break.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        while !self.waiting.is_empty() {
            self.print_next();
        }
        self.print("\n");
        self.failure.map_or(Ok(()), Err)
    }

    fn print_next(&mut self) {
        let (text, is_complete) = self.waiting.remove(0);
        self.current += 1;
        self.is_complete = is_complete;
        self.print(&format!("\n{SEPARATOR}\n"));
        self.print(self.prompt);
        self.print(&text);
    }

    fn print(&mut self, text: &str) {
        let text = if self.is_terminal { escaped(text) } else { Cow::Borrowed(text) };
        if let (Some(out), None) = (&mut self.out, &self.failure)
            && let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
        {
            self.failure = Some(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use sampler::StoppedBy;

    use super::*;

    fn piece(sample: usize, text: &str) -> Piece {
        Piece { sample, text: text.to_owned(), stopped_by: None }
    }

    fn last(sample: usize, text: &str) -> Piece {
        Piece { stopped_by: Some(StoppedBy::MaxTokens), ..piece(sample, text) }
    }

    fn printed(prompt: &str, is_terminal: bool, pieces: impl IntoIterator<Item = Piece>) -> String {
        let mut out = Vec::new();
        let mut printer = SamplePrinter::new(prompt, Some(Box::new(&mut out)), is_terminal);
        printer.begin();
        pieces.into_iter().for_each(|piece| printer.print_piece(piece));
        printer.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn samples_side_by_side_are_printed_one_after_the_other() {
        let side_by_side = [piece(0, "a"), piece(1, "x"), last(0, "b"), piece(1, "y"), last(1, "z")];
        let expected = format!("> ab\n{SEPARATOR}\n> xyz\n{SEPARATOR}\n> m\n");
        assert_eq!(printed("> ", false, side_by_side.into_iter().chain([last(2, "m")])), expected);
        // A later sample is complete first, and one is interrupted.
        let crossed = [piece(0, "a"), piece(1, "x"), last(2, "m"), last(1, "yz"), piece(0, "b")];
        assert_eq!(printed("> ", false, crossed), expected);
    }

    #[test]
    fn after_a_complete_sample_the_next_one_is_printed_as_it_is_generated() {
        let mut out = Vec::new();
        let mut printer = SamplePrinter::new("", Some(Box::new(&mut out)), false);
        [piece(1, "x"), last(0, "a"), piece(1, "y")].into_iter().for_each(|piece| printer.print_piece(piece));
        drop(printer);
        assert_eq!(String::from_utf8(out).unwrap(), format!("a\n{SEPARATOR}\nxy"));
    }

    #[test]
    fn a_terminal_gets_escapes_and_a_pipe_every_byte() {
        let pieces = || [last(0, "\r"), last(1, "\u{9b}2J")];
        let expected = format!("\\u{{1b}}[31m\\r\n{SEPARATOR}\n\\u{{1b}}[31m\\u{{9b}}2J\n");
        assert_eq!(printed("\x1b[31m", true, pieces()), expected);
        let expected = format!("\x1b[31m\r\n{SEPARATOR}\n\x1b[31m\u{9b}2J\n");
        assert_eq!(printed("\x1b[31m", false, pieces()), expected);
    }

    #[test]
    fn a_closed_pipe_is_an_error() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut printer = SamplePrinter::new("", Some(Box::new(Closed)), false);
        printer.begin();
        printer.print_piece(piece(0, "a"));
        assert!(printer.has_failed());
        assert_eq!(printer.finish().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
