//! Messages, progress bars and tables on a terminal.
//!
//! Messages go to stderr, or to a listener that controls the terminal ([`divert`]).

use std::{
    borrow::Cow,
    env, fmt,
    io::{self, IsTerminal, Write},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::{Timestamp, tz::TimeZone};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();

/// Commands to type.
const COMMAND: Style = Style::new().bold();

/// Whether only warnings and errors are printed.
static QUIET: AtomicBool = AtomicBool::new(false);

type Listener = Box<dyn Fn(&str) + Send>;

/// Receives messages in place of stderr while it controls the terminal.
static LISTENER: Mutex<Option<Listener>> = Mutex::new(None);

/// Suppresses all messages except warnings and errors.
pub fn set_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Whether only warnings and errors are printed.
pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Prints a message, unless quiet.
pub fn report(line: fmt::Arguments<'_>) {
    if !is_quiet() {
        say(&line.to_string());
    }
}

/// Prints a command to type, indented and bold, unless quiet.
pub fn report_command(command: fmt::Arguments<'_>) {
    report(format_args!("  {COMMAND}{command}{COMMAND:#}"));
}

/// Prints a warning.
pub fn warn(line: fmt::Arguments<'_>) {
    say(&format!("{WARNING}warning:{WARNING:#} {line}"));
}

/// Prints an error with its causes.
pub fn error(error: &anyhow::Error) {
    say(&format!("{ERROR}error:{ERROR:#} {}", format!("{error:#}").trim_end()));
}

/// Sends a line to the listener, or to stderr.
fn say(line: &str) {
    match &*LISTENER.lock().expect("nothing panics while it is held") {
        Some(listener) => listener(line),
        None => print(line),
    }
}

/// Prints a line to stderr, which may be closed; in colour if it is a terminal and `NO_COLOR` is not set.
pub fn print(line: &str) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// Routes messages to a listener until it is dropped.
pub struct Diversion(());

/// Routes messages to a listener in place of stderr.
pub fn divert(listener: impl Fn(&str) + Send + 'static) -> Diversion {
    *LISTENER.lock().expect("nothing panics while it is held") = Some(Box::new(listener));
    Diversion(())
}

impl Drop for Diversion {
    fn drop(&mut self) {
        *LISTENER.lock().expect("nothing panics while it is held") = None;
    }
}

/// Formats `tracing` events of the libraries as messages, warnings and errors.
pub struct Events;

/// Writes one event.
pub struct EventWriter {
    level: Level,
}

impl<'a> MakeWriter<'a> for Events {
    type Writer = EventWriter;

    fn make_writer(&'a self) -> EventWriter {
        EventWriter { level: Level::INFO }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> EventWriter {
        EventWriter { level: *event.level() }
    }
}

impl Write for EventWriter {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(lines);
        let text = text.trim();
        match self.level {
            Level::ERROR => say(&format!("{ERROR}error:{ERROR:#} {text}")),
            Level::WARN => warn(format_args!("{text}")),
            _ => say(text),
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A progress bar on stderr; hidden when quiet.
pub fn progress_bar(template: &str) -> ProgressBar {
    let target = if is_quiet() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    ProgressBar::with_draw_target(None, target).with_style(progress_style(template))
}

/// The style of a progress bar.
///
/// # Panics
///
/// If the template is invalid.
pub fn progress_style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is well-formed")
}

/// Whether stdin, stdout and stderr are a terminal that can be drawn on, and `NO_COLOR` is not set.
pub fn can_draw() -> bool {
    let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = cfg!(unix) && env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal() && io::stderr().is_terminal();
    is_terminal && !is_dumb && !is_set("NO_COLOR")
}

/// The command that runs kindling: through cargo if cargo started the process.
pub fn program() -> &'static str {
    if env::var_os("CARGO").is_some() { "cargo run -p cli --" } else { "kindling" }
}

/// Formats a table; the columns with the indices in `right` are right-aligned.
pub fn table<const N: usize>(
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
    right: &[usize],
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header).add_rows(rows);
    for (idx, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&idx) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// Formats a Unix timestamp in seconds as local time; empty if it is out of range.
pub fn local_time(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(String::new, |time| {
        time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string()
    })
}

/// Escapes control characters except line breaks and tabs, as `\u{1b}`, so that generated text can't control the
/// terminal.
pub fn escaped(text: &str) -> Cow<'_, str> {
    let is_printable = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    if text.chars().all(is_printable) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_printable(c) { safe.push(c) } else { safe.extend(c.escape_default()) }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_text_is_not() {
        let plain = "ROMEO:\n\tἌνδρα 学 🙂 e\u{301} \\n";
        assert!(matches!(escaped(plain), Cow::Borrowed(text) if text == plain));
        assert_eq!(escaped("a\x1b[2Jb\r\n"), "a\\u{1b}[2Jb\\r\n");
        assert_eq!(escaped("\0\x07\x08\x7f\u{9b}\u{85}"), "\\u{0}\\u{7}\\u{8}\\u{7f}\\u{9b}\\u{85}");
    }
}
