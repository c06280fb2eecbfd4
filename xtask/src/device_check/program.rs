//! A program that is run to its end, or to the end of its time.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
#[cfg(unix)]
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use wait_timeout::ChildExt;

/// The leader of the group that runs, or 0.
static GROUP: AtomicU32 = AtomicU32::new(0);

/// What a shell says of a program that Ctrl-C ended.
#[cfg(unix)]
const INTERRUPTED: i32 = 130;

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// None if it succeeded.
    pub(crate) failure: Option<String>,
    pub(crate) seconds: f64,
    /// Stdout and stderr, in the order in which they were written.
    pub(crate) output: String,
}

/// Runs it with all it prints going to the file `log`.
pub(crate) fn run(command: &mut Command, log: &Path, timeout: Duration) -> anyhow::Result<Ended> {
    let writes = |log: &Path| format!("write {}", log.display());
    let file = File::create(log).with_context(|| writes(log))?;
    let again = file.try_clone().with_context(|| writes(log))?;
    command.stdin(Stdio::null()).stdout(file).stderr(again);
    lead_a_group(command);
    let started = Instant::now();
    let program = command.get_program().to_owned();
    end_with_us()?;
    let mut child = command.spawn().with_context(|| {
        format!(
            "start {}; if a copy of the pack has lost the right to be executed, chmod +x gives it back",
            program.display()
        )
    })?;
    GROUP.store(child.id(), Ordering::SeqCst);
    let failure = match child.wait_timeout(timeout)? {
        Some(status) => (!status.success()).then(|| status.to_string()),
        None => {
            end(&mut child)?;
            child.wait()?;
            Some(format!("ended after {} s, by --timeout", timeout.as_secs()))
        }
    };
    GROUP.store(0, Ordering::SeqCst);
    let seconds = started.elapsed().as_secs_f64();
    let output = fs::read(log).with_context(|| format!("read {}", log.display()))?;
    Ok(Ended { failure, seconds, output: String::from_utf8_lossy(&output).into_owned() })
}

/// Has a program lead a process group, so that those it starts end with it.
#[cfg(unix)]
fn lead_a_group(command: &mut Command) {
    std::os::unix::process::CommandExt::process_group(command, 0);
}

#[cfg(not(unix))]
fn lead_a_group(_command: &mut Command) {}

/// Ends a program, and those it has started.
#[cfg(unix)]
fn end(child: &mut Child) -> anyhow::Result<()> {
    end_group(child.id()).context("end a program that took too long")
}

#[cfg(unix)]
fn end_group(leader: u32) -> anyhow::Result<()> {
    use nix::sys::signal::{Signal, killpg};
    let group = nix::unistd::Pid::from_raw(i32::try_from(leader)?);
    Ok(killpg(group, Signal::SIGKILL)?)
}

/// Has the program that runs end with this one at Ctrl-C, which its group does not see.
#[cfg(unix)]
fn end_with_us() -> anyhow::Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        result = ctrlc::set_handler(|| {
            let leader = GROUP.load(Ordering::SeqCst);
            if leader > 0 {
                let _ = end_group(leader); // It may have ended meanwhile.
            }
            std::process::exit(INTERRUPTED);
        });
    });
    result.context("listen for Ctrl-C")
}

#[cfg(not(unix))]
fn end_with_us() -> anyhow::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
fn end(child: &mut Child) -> anyhow::Result<()> {
    child.kill().context("end a program that took too long")
}

#[cfg(test)]
#[cfg(unix)] // Where there is `sh`.
mod tests {
    use super::*;

    fn ended(script: &str, timeout: Duration) -> Ended {
        let folder = tempfile::tempdir().unwrap();
        run(Command::new("sh").args(["-c", script]), &folder.path().join("log"), timeout).unwrap()
    }

    #[test]
    fn both_outputs_are_kept_in_order() {
        let ended = ended("echo one; echo two >&2; echo three; exit 3", Duration::from_secs(60));
        assert_eq!(ended.output, "one\ntwo\nthree\n");
        assert_eq!(ended.failure.unwrap(), "exit status: 3");
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let ended = ended("echo begun; exec sleep 600", Duration::from_secs(1));
        assert_eq!(ended.failure.unwrap(), "ended after 1 s, by --timeout");
        assert_eq!(ended.output, "begun\n");
    }

    #[test]
    fn what_a_program_that_hangs_has_started_ends_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let ended = ended(&format!("sleep 600 & echo $! > {}; wait", path.display()), Duration::from_secs(1));
        assert!(ended.failure.unwrap().contains("by --timeout"));
        let pid = fs::read_to_string(path).unwrap().trim().parse().unwrap();
        let is_there = || {
            let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // A zombie waits for whoever adopted it.
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None).is_ok() && !state.contains(" Z ")
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while is_there() {
            assert!(Instant::now() < deadline, "it still runs");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error_that_names_it() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let error = run(&mut Command::new("/no/such/program"), log.path(), Duration::MAX).unwrap_err();
        assert!(error.to_string().starts_with("start /no/such/program; "), "{error}");
    }
}
