//! Runs a program with a time limit.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
#[cfg(unix)]
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use wait_timeout::ChildExt;

/// Process group of the running program, or 0.
static GROUP: AtomicU32 = AtomicU32::new(0);

/// Exit code after Ctrl-C, as in a shell.
#[cfg(unix)]
const INTERRUPTED: i32 = 130;

/// The result of a program.
#[derive(Debug)]
pub(crate) struct ProgramResult {
    /// `None` if it succeeded.
    pub(crate) failure: Option<String>,
    pub(crate) seconds: f64,
    /// Stdout and stderr, interleaved as printed.
    pub(crate) output: String,
}

/// Runs a program and writes its output to the file `log`.
pub(crate) fn run(command: &mut Command, log: &Path, timeout: Duration) -> anyhow::Result<ProgramResult> {
    let error = |log: &Path| format!("cannot write {}", log.display());
    let file = File::create(log).with_context(|| error(log))?;
    let again = file.try_clone().with_context(|| error(log))?;
    command.stdin(Stdio::null()).stdout(file).stderr(again);
    set_process_group(command);
    let started = Instant::now();
    let program = command.get_program().to_owned();
    kill_on_ctrl_c()?;
    let mut child = command.spawn().with_context(|| {
        format!(
            "cannot start {}; if copying the pack removed the execute permission, restore it with chmod +x",
            program.display()
        )
    })?;
    GROUP.store(child.id(), Ordering::SeqCst);
    let failure = match child.wait_timeout(timeout)? {
        Some(status) => (!status.success()).then(|| status.to_string()),
        None => {
            kill(&mut child)?;
            child.wait()?;
            Some(format!("stopped by --timeout after {} s", timeout.as_secs()))
        }
    };
    GROUP.store(0, Ordering::SeqCst);
    let seconds = started.elapsed().as_secs_f64();
    let output = fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    Ok(ProgramResult { failure, seconds, output: String::from_utf8_lossy(&output).into_owned() })
}

/// Gives a program its own process group, so that its children can be killed with it.
#[cfg(unix)]
fn set_process_group(command: &mut Command) {
    std::os::unix::process::CommandExt::process_group(command, 0);
}

#[cfg(not(unix))]
fn set_process_group(_command: &mut Command) {}

/// Kills a program and its children.
#[cfg(unix)]
fn kill(child: &mut Child) -> anyhow::Result<()> {
    kill_group(child.id()).context("cannot stop a program after --timeout")
}

#[cfg(unix)]
fn kill_group(leader: u32) -> anyhow::Result<()> {
    use nix::sys::signal::{Signal, killpg};
    let group = nix::unistd::Pid::from_raw(i32::try_from(leader)?);
    Ok(killpg(group, Signal::SIGKILL)?)
}

/// Kills the running program at Ctrl-C, which its process group does not receive.
#[cfg(unix)]
fn kill_on_ctrl_c() -> anyhow::Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        result = ctrlc::set_handler(|| {
            let leader = GROUP.load(Ordering::SeqCst);
            if leader > 0 {
                let _ = kill_group(leader); // It may have exited.
            }
            std::process::exit(INTERRUPTED);
        });
    });
    result.context("cannot handle Ctrl-C")
}

#[cfg(not(unix))]
fn kill_on_ctrl_c() -> anyhow::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
fn kill(child: &mut Child) -> anyhow::Result<()> {
    child.kill().context("cannot stop a program after --timeout")
}

#[cfg(test)]
#[cfg(unix)] // The tests need `sh`.
mod tests {
    use super::*;

    fn ended(script: &str, timeout: Duration) -> ProgramResult {
        let folder = tempfile::tempdir().unwrap();
        run(Command::new("sh").args(["-c", script]), &folder.path().join("log"), timeout).unwrap()
    }

    #[test]
    fn stdout_and_stderr_are_interleaved() {
        let ended = ended("echo one; echo two >&2; echo three; exit 3", Duration::from_secs(60));
        assert_eq!(ended.output, "one\ntwo\nthree\n");
        assert_eq!(ended.failure.unwrap(), "exit status: 3");
    }

    #[test]
    fn a_program_that_hangs_is_stopped() {
        let ended = ended("echo begun; exec sleep 600", Duration::from_secs(1));
        assert_eq!(ended.failure.unwrap(), "stopped by --timeout after 1 s");
        assert_eq!(ended.output, "begun\n");
    }

    #[test]
    fn the_children_of_a_program_that_hangs_are_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let ended = ended(&format!("sleep 600 & echo $! > {}; wait", path.display()), Duration::from_secs(1));
        assert!(ended.failure.unwrap().contains("by --timeout"));
        let pid = fs::read_to_string(path).unwrap().trim().parse().unwrap();
        let is_running = || {
            let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // A zombie that its new parent has not reaped does not count.
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None).is_ok() && !state.contains(" Z ")
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while is_running() {
            assert!(Instant::now() < deadline, "still running");
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_error_for_a_missing_program_names_it() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let error = run(&mut Command::new("/no/such/program"), log.path(), Duration::MAX).unwrap_err();
        assert!(error.to_string().starts_with("cannot start /no/such/program; "), "{error}");
    }
}
