//! Samples on stdout: generated side by side, shown one after the other.

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::console::escaped;

/// What stands between samples.
const SEPARATOR: &str = "---------------";

/// Where samples are shown. Of those that are written side by side the first is shown as it comes, and the others
/// when all are complete.
pub(crate) struct Shown<'a> {
    prompt: &'a str,
    /// Without it, nothing is shown.
    out: Option<Box<dyn Write + 'a>>,
    /// Whether it is a terminal, which would obey control characters.
    is_terminal: bool,
    /// Set by somebody who has seen enough.
    stopped: Arc<AtomicBool>,
    /// Samples that have begun to be shown.
    n_begun: u64,
    /// What waits, of the samples written side by side but for the first.
    waiting: Vec<String>,
    failure: Option<io::Error>,
}

impl<'a> Shown<'a> {
    /// Shows the prompt before each sample, on stdout.
    pub(crate) fn stdout(prompt: &'a str) -> Self {
        Self::new(prompt, Box::new(io::stdout()), io::stdout().is_terminal())
    }

    /// Shows the prompt before each sample. A terminal gets control characters as escapes, anything else every byte
    /// as it is.
    fn new(prompt: &'a str, out: Box<dyn Write + 'a>, is_terminal: bool) -> Self {
        Self {
            prompt,
            out: Some(out),
            is_terminal,
            stopped: Arc::default(),
            n_begun: 0,
            waiting: Vec::new(),
            failure: None,
        }
    }

    /// Shows nothing.
    pub(crate) fn nothing() -> Self {
        Self { out: None, ..Self::new("", Box::new(io::sink()), false) }
    }

    /// Ends all samples as soon as this is set.
    pub(crate) fn until(self, stopped: Arc<AtomicBool>) -> Self {
        Self { stopped, ..self }
    }

    /// Whether nobody wants more.
    pub(crate) fn is_over(&self) -> bool {
        self.failure.is_some() || self.stopped.load(Ordering::SeqCst)
    }

    /// So many samples, at least one, are about to be written side by side.
    pub(crate) fn begin(&mut self, n: usize) {
        self.waiting = vec![String::new(); n - 1];
        self.show_heading();
    }

    /// More of a sample.
    pub(crate) fn text(&mut self, sample: usize, text: &str) -> ControlFlow<()> {
        match sample.checked_sub(1) {
            None => self.show(text),
            Some(idx) => self.waiting[idx].push_str(text),
        }
        if self.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// The samples that were written side by side are complete.
    pub(crate) fn end(&mut self) {
        for text in std::mem::take(&mut self.waiting) {
            self.show_heading();
            self.show(&text);
        }
    }

    /// All is shown.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if self.n_begun > 0 {
            self.show("\n");
        }
        self.failure.take().map_or(Ok(()), Err)
    }

    fn show_heading(&mut self) {
        if self.n_begun > 0 {
            self.show(&format!("\n{SEPARATOR}\n"));
        }
        self.n_begun += 1;
        self.show(self.prompt);
    }

    fn show(&mut self, text: &str) {
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
    use super::*;

    #[test]
    fn samples_side_by_side_are_shown_one_after_the_other() {
        let mut out = Vec::new();
        let mut shown = Shown::new("> ", Box::new(&mut out), false);
        shown.begin(2);
        for (sample, text) in [(0, "a"), (1, "x"), (0, "b"), (1, "y"), (1, "z")] {
            assert!(shown.text(sample, text).is_continue());
        }
        shown.end();
        shown.begin(1);
        assert!(shown.text(0, "m").is_continue());
        shown.end();
        shown.finish().unwrap();
        drop(shown);
        let expected = format!("> ab\n{SEPARATOR}\n> xyz\n{SEPARATOR}\n> m\n");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_terminal_gets_escapes_and_a_pipe_every_byte() {
        let shown = |is_terminal| {
            let mut out = Vec::new();
            let mut shown = Shown::new("\x1b[31m", Box::new(&mut out), is_terminal);
            shown.begin(2);
            for (sample, text) in [(0, "\r"), (1, "\u{9b}2J")] {
                assert!(shown.text(sample, text).is_continue());
            }
            shown.end();
            shown.finish().unwrap();
            drop(shown);
            String::from_utf8(out).unwrap()
        };
        let expected = format!("\\u{{1b}}[31m\\r\n{SEPARATOR}\n\\u{{1b}}[31m\\u{{9b}}2J\n");
        assert_eq!(shown(true), expected);
        assert_eq!(shown(false), format!("\x1b[31m\r\n{SEPARATOR}\n\x1b[31m\u{9b}2J\n"));
    }

    #[test]
    fn a_reader_that_has_gone_ends_the_text() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut shown = Shown::new("", Box::new(Closed), false);
        shown.begin(1);
        assert!(shown.text(0, "a").is_break());
        assert_eq!(shown.finish().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
