//! Starts `kindling`, sends it signals and checks how it ended.

use std::{
    fmt,
    fs::File,
    io::{Read, Seek},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use wait_timeout::ChildExt;

use crate::support;

/// A run takes a second; one that takes this long hangs.
const LIMIT: Duration = Duration::from_secs(90);

/// Results are bitwise equal only with the same number of threads.
const N_THREADS: &str = "2";

pub(crate) const MAX_STEPS: u64 = 60;
pub(crate) const CHECKPOINT_INTERVAL: u64 = 8;
pub(crate) const EVAL_INTERVAL: u64 = 5;
// No checkpoint is due at the last step.
const _: () = assert!(!MAX_STEPS.is_multiple_of(CHECKPOINT_INTERVAL));

/// Starts `kindling` on one text.
#[derive(Debug, Clone)]
pub(crate) struct Kindling {
    pub(crate) text: PathBuf,
    /// Working directory, with the prepared data.
    pub(crate) folder: PathBuf,
}

impl Kindling {
    /// Starts a run that writes every kind of file often: the preset `debug` with short intervals.
    pub(crate) fn start(&self, run: &Path) -> anyhow::Result<Running> {
        let mut command = support::kindling(&self.folder, &["train", "debug", "--data"]);
        command.arg(&self.text).arg("--run").arg(run);
        for (key, value) in [
            ("model.n_embd", 64),
            ("model.block_size", 32),
            ("schedule.max_steps", MAX_STEPS),
            ("schedule.decay_steps", MAX_STEPS),
            ("schedule.eval_interval", EVAL_INTERVAL),
            ("schedule.eval_batches", 2),
            ("schedule.checkpoint_interval", CHECKPOINT_INTERVAL),
            ("schedule.log_interval", 1),
            ("schedule.sample_interval", 20),
        ] {
            command.args(["--set", &format!("{key}={value}")]);
        }
        command.args(["--set", "model.dropout=0.1"]);
        Running::new(command)
    }

    pub(crate) fn resume(&self, run: &Path) -> anyhow::Result<Running> {
        let mut command = support::kindling(&self.folder, &["train", "--resume", "--run"]);
        command.arg(run);
        Running::new(command)
    }
}

/// A running process, killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// An unnamed file instead of a pipe, so that nothing has to read it while the process runs.
    stderr: File,
}

impl Running {
    fn new(mut command: Command) -> anyhow::Result<Self> {
        let stderr = tempfile::tempfile()?;
        command.env("RAYON_NUM_THREADS", N_THREADS).stdout(Stdio::null()).stderr(stderr.try_clone()?);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child, stderr })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_over(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Sends a signal; has no effect if the process has ended.
    pub(crate) fn send(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(signal::kill(Pid::from_raw(self.child.id().try_into()?), signal)?)
    }

    pub(crate) fn wait(mut self) -> anyhow::Result<Ended> {
        let status = self.child.wait_timeout(LIMIT)?;
        let status = status.with_context(|| format!("the run takes longer than {} s", LIMIT.as_secs()))?;
        let mut stderr = Vec::new();
        self.stderr.rewind()?;
        self.stderr.read_to_end(&mut stderr)?;
        Ok(Ended { status, stderr: String::from_utf8_lossy(&stderr).into_owned() })
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(self, signal: Signal) -> anyhow::Result<Ended> {
        self.send(signal)?;
        self.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill(); // It may have ended.
        let _ = self.child.wait();
    }
}

/// Exit status and stderr of a process.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub(crate) fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    pub(crate) fn check_success(&self) -> anyhow::Result<()> {
        ensure!(self.status.success(), "{self}");
        Ok(())
    }

    /// Checks for exit code 1, no panic, and exactly one error line.
    pub(crate) fn check_error(&self) -> anyhow::Result<()> {
        let n_errors = self.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        ensure!(self.code() == Some(1), "not exit code 1 but {self}");
        ensure!(n_errors == 1, "{n_errors} error lines, not one: {self}");
        ensure!(!self.stderr.contains("panicked"), "a panic: {self}");
        Ok(())
    }
}

/// The status and the last three lines.
impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<&str> = self.stderr.lines().filter(|line| !line.trim().is_empty()).collect();
        write!(f, "{}: {}", self.status, lines[lines.len().saturating_sub(3)..].join(" | "))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn ended(code: i32, stderr: &str) -> Ended {
        Ended { status: ExitStatus::from_raw(code << 8), stderr: stderr.to_owned() }
    }

    #[test]
    fn an_error_is_exit_code_1_and_one_line() {
        let wrong = |ended: Ended| ended.check_error().unwrap_err().to_string();
        ended(1, "step 1\nerror: the disk is full\n").check_error().unwrap();
        assert!(wrong(ended(0, "error: it\n")).starts_with("not exit code 1 but exit status: 0"));
        let aborted = Ended { status: ExitStatus::from_raw(6), stderr: "error: it\n".to_owned() };
        assert!(wrong(aborted).contains("signal: 6"));
        assert!(wrong(ended(1, "no\n")).starts_with("0 error lines"));
        assert!(wrong(ended(1, "error: a\nerror: b\n")).starts_with("2 error lines"));
        assert!(wrong(ended(1, "error: a\nthread panicked at\n")).starts_with("a panic"));
    }
}
