//! A run as lines: below them a progress bar on a terminal, and some more of them elsewhere.

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use console::{Diversion, divert, escaped, is_quiet, print, progress_bar, report};
use indicatif::ProgressBar;
use trainer::{Metrics, Split};

use crate::screen::{Pace, Screen, evaluation_line, loss_of, sample_heading, speed_of, training_line};

/// Elsewhere than on a terminal, a line of training metrics at most this often.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Shows a run as lines.
pub struct Lines {
    bar: ProgressBar,
    pace: Pace,
    last_line: Option<Instant>,
    last_train: Option<Metrics>,
}

/// As long as it lives, lines that are said go above the bar.
pub struct AboveBar {
    bar: ProgressBar,
    _diversion: Diversion,
}

impl Drop for AboveBar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Lines {
    /// Draws the bar, which is gone when the second value is dropped.
    pub fn open() -> (Self, AboveBar) {
        let bar = progress_bar("{bar:24} {pos}/{len}  {msg}");
        let beneath = bar.clone();
        let diversion = divert(move |line| beneath.suspend(|| print(line)));
        let lines = Self { bar: bar.clone(), pace: Pace::start(0, 0), last_line: None, last_train: None };
        (lines, AboveBar { bar, _diversion: diversion })
    }

    fn trained(&mut self, metrics: &Metrics) {
        let left = self.pace.left();
        self.bar.set_message(format!(
            "loss {}  {} tokens/s  {left} left",
            loss_of(metrics),
            speed_of(metrics)
        ));
        if self.bar.is_hidden() && self.last_line.is_none_or(|last| last.elapsed() >= LINE_INTERVAL) {
            report(format_args!("{}", training_line(metrics, &self.pace)));
            self.last_line = Some(Instant::now());
        }
        self.last_train = Some(metrics.clone());
    }
}

impl Screen for Lines {
    fn started(&mut self, step: u64, max_steps: u64) {
        self.pace = Pace::start(step, max_steps);
        self.bar.set_length(max_steps);
        self.bar.set_position(step);
    }

    fn step(&mut self, step: u64) {
        self.pace.step = step;
        self.bar.set_position(step);
        if step == self.pace.max_steps {
            self.bar.finish_and_clear();
        }
    }

    fn measured(&mut self, metrics: &Metrics) {
        match metrics.split {
            Split::Train => self.trained(metrics),
            Split::Valid => {
                let line = evaluation_line(metrics, self.last_train.as_ref(), self.pace.max_steps);
                report(format_args!("{line}"));
            }
        }
    }

    fn sampled(&mut self, step: u64, text: &str) {
        if is_quiet() {
            return;
        }
        report(format_args!("{}", sample_heading(step)));
        self.bar.suspend(|| print_sample(text));
    }
}

/// Prints a sample to stdout. If that is closed, training continues.
pub(crate) fn print_sample(text: &str) {
    let _ = write_sample(&mut io::stdout().lock(), text, io::stdout().is_terminal());
}

/// A terminal gets control characters as escapes, anything else every byte as it is.
fn write_sample(out: &mut impl Write, text: &str, is_terminal: bool) -> io::Result<()> {
    let text = if is_terminal { escaped(text) } else { Cow::Borrowed(text) };
    writeln!(out, "{text}\n")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_escapes_and_a_pipe_every_byte() {
        let written = |is_terminal| {
            let mut out = Vec::new();
            write_sample(&mut out, "a\x1bc\n", is_terminal).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(true), "a\\u{1b}c\n\n\n");
        assert_eq!(written(false), "a\x1bc\n\n\n");
    }
}
