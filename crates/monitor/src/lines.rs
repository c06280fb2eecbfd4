//! A run as lines of text: with a progress bar on a terminal, otherwise with additional lines of training metrics.

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use console::{Diversion, divert, escaped, is_quiet, print, progress_bar, report};
use indicatif::ProgressBar;
use trainer::{Metrics, Split};

use crate::screen::{Pace, Screen, evaluation_line, loss_of, sample_heading, speed_of, training_line};

/// Minimum time between lines of training metrics if stderr is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Displays a run as lines of text.
pub struct Lines {
    bar: ProgressBar,
    pace: Pace,
    last_line: Option<Instant>,
    last_train: Option<Metrics>,
}

/// While this exists, messages are printed above the progress bar. Dropping it removes the bar.
pub struct BarGuard {
    bar: ProgressBar,
    _diversion: Diversion,
}

impl Drop for BarGuard {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Lines {
    /// Draws the progress bar and returns the guard that removes it.
    pub fn open() -> (Self, BarGuard) {
        let bar = progress_bar("{bar:24} {pos}/{len}  {msg}");
        let suspended = bar.clone();
        let diversion = divert(move |line| suspended.suspend(|| print(line)));
        let lines = Self { bar: bar.clone(), pace: Pace::start(0, 0), last_line: None, last_train: None };
        (lines, BarGuard { bar, _diversion: diversion })
    }

    fn trained(&mut self, metrics: &Metrics) {
        let left = self.pace.time_left();
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

/// Prints a sample to stdout. Errors are ignored: training continues if stdout is closed.
pub(crate) fn print_sample(text: &str) {
    let _ = write_sample(&mut io::stdout().lock(), text, io::stdout().is_terminal());
}

/// Escapes control characters on a terminal; otherwise writes the text unchanged.
fn write_sample(out: &mut impl Write, text: &str, is_terminal: bool) -> io::Result<()> {
    let text = if is_terminal { escaped(text) } else { Cow::Borrowed(text) };
    writeln!(out, "{text}\n")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_on_a_terminal_only() {
        let written = |is_terminal| {
            let mut out = Vec::new();
            write_sample(&mut out, "a\x1bc\n", is_terminal).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(true), "a\\u{1b}c\n\n\n");
        assert_eq!(written(false), "a\x1bc\n\n\n");
    }
}
