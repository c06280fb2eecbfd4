//! The program under test: how it is started, and how it ended.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::signal::{self, Signal};

/// A run of a second that lasts this long hangs.
const LIMIT: Duration = Duration::from_secs(90);

/// How often a program is looked at.
pub(crate) const POLL: Duration = Duration::from_micros(50);

/// Bits are the same at the same number of threads only.
const N_THREADS: &str = "2";

pub(crate) const MAX_STEPS: u64 = 100;
pub(crate) const CHECKPOINT_INTERVAL: u64 = 8;
pub(crate) const EVAL_INTERVAL: u64 = 5;

/// Over the preset `debug`. Everything that a run writes, often; the last step is due for no checkpoint.
const RECIPE: [&str; 10] = [
    "model.n_embd=64",
    "model.block_size=32",
    "model.dropout=0.1",
    "schedule.max_steps=100",
    "schedule.decay_steps=100",
    "schedule.eval_interval=5",
    "schedule.eval_batches=2",
    "schedule.checkpoint_interval=8",
    "schedule.log_interval=1",
    "schedule.sample_interval=20",
];

/// `kindling`, and what it learns from.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) binary: PathBuf,
    /// A text file.
    pub(crate) text: PathBuf,
    /// Where it runs, and where it keeps the tokens of the text.
    pub(crate) folder: PathBuf,
}

impl Program {
    /// Begins a run.
    pub(crate) fn start(&self, run: &Path) -> anyhow::Result<Running> {
        let mut command = self.command();
        command.args(["train", "debug", "--data"]).arg(&self.text).arg("--run").arg(run);
        command.args(RECIPE.iter().flat_map(|set| ["--set", set]));
        Running::new(command)
    }

    /// Goes on with a run.
    pub(crate) fn resume(&self, run: &Path) -> anyhow::Result<Running> {
        let mut command = self.command();
        command.args(["train", "--resume", "--run"]).arg(run);
        Running::new(command)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.current_dir(&self.folder).env("RAYON_NUM_THREADS", N_THREADS).env_remove("CARGO");
        command
    }
}

/// A program that runs. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// A file without a name, which holds any amount without being read meanwhile.
    stderr: File,
}

impl Running {
    fn new(mut command: Command) -> anyhow::Result<Self> {
        let stderr = tempfile::tempfile()?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr.try_clone()?);
        let child = command.spawn().with_context(|| format!("run {command:?}"))?;
        Ok(Self { child, stderr })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_over(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// It may be over: then nothing happens.
    pub(crate) fn send(&self, signal: Signal) -> anyhow::Result<()> {
        signal.send(&self.child).with_context(|| format!("send {}", signal.name()))
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> anyhow::Result<Ended> {
        let started = Instant::now();
        let exit = loop {
            if let Some(status) = self.child.try_wait()? {
                let signal = signal::that_ended(status).map(Exit::Signal);
                break signal.or(status.code().map(Exit::Code)).context("it ended neither way")?;
            }
            if started.elapsed() > LIMIT {
                break Exit::Never;
            }
            thread::sleep(20 * POLL);
        };
        let mut stderr = Vec::new();
        self.stderr.rewind()?;
        self.stderr.read_to_end(&mut stderr)?;
        Ok(Ended { exit, stderr: String::from_utf8_lossy(&stderr).into_owned() })
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(self, signal: Signal) -> anyhow::Result<Ended> {
        self.send(signal)?;
        self.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill(); // It is over, or about to be.
        let _ = self.child.wait();
    }
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) exit: Exit,
    pub(crate) stderr: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    /// Ended by the system, for this signal.
    Signal(i32),
    Never,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit {code}"),
            Self::Signal(number) => write!(f, "its end by signal {number}"),
            Self::Never => write!(f, "no end within {} s", LIMIT.as_secs()),
        }
    }
}

impl Ended {
    /// The last lines of what it said.
    pub(crate) fn last_words(&self) -> String {
        let lines: Vec<&str> = self.stderr.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(3)..].join(" | ")
    }

    /// What is wrong with it as a refusal or a failure: it has to be exit 1 with one line that says why.
    pub(crate) fn not_a_clear_error(&self) -> Option<String> {
        let n_errors = self.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        if self.exit != Exit::Code(1) {
            Some(format!("{} instead of exit 1: {}", self.exit, self.last_words()))
        } else if n_errors != 1 {
            Some(format!("{n_errors} lines of error instead of one: {}", self.last_words()))
        } else if self.stderr.contains("panicked") {
            Some(format!("a panic: {}", self.last_words()))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(exit: Exit, stderr: &str) -> Ended {
        Ended { exit, stderr: stderr.to_owned() }
    }

    #[test]
    fn a_clear_error_is_exit_1_and_one_line() {
        let wrong = |exit, stderr| ended(exit, stderr).not_a_clear_error();
        assert_eq!(wrong(Exit::Code(1), "step 1\nerror: the disk is full\n"), None);
        assert!(wrong(Exit::Code(0), "error: the disk is full\n").unwrap().starts_with("exit 0 instead"));
        assert!(wrong(Exit::Signal(6), "error: it\n").unwrap().contains("signal 6"));
        assert!(wrong(Exit::Code(1), "no\n").unwrap().starts_with("0 lines of error"));
        assert!(wrong(Exit::Code(1), "error: a\nerror: b\n").unwrap().starts_with("2 lines of error"));
        assert!(wrong(Exit::Code(1), "error: a\nthread panicked at\n").unwrap().starts_with("a panic"));
    }

    #[test]
    fn the_intervals_are_those_of_the_recipe() {
        for (key, value) in [
            ("max_steps", MAX_STEPS),
            ("checkpoint_interval", CHECKPOINT_INTERVAL),
            ("eval_interval", EVAL_INTERVAL),
        ] {
            assert!(RECIPE.contains(&format!("schedule.{key}={value}").as_str()), "{key}");
        }
        assert_ne!(MAX_STEPS % CHECKPOINT_INTERVAL, 0);
    }
}
