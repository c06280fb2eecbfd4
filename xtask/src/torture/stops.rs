//! Signals that a run answers: what it has to do, say and exit with. None where it was done before.

use std::path::Path;
use std::thread;
use std::time::Duration;

use super::program::{CHECKPOINT_INTERVAL, Ended, Exit, POLL, Running};
use super::report::{Failure, Kind};
use super::run_folder;
use super::signal::Signal;

/// Stops a run that has to save its last step, say how to go on, and exit by the signal.
pub(crate) fn stop(running: Running, signal: Signal, run: &Path) -> anyhow::Result<Option<Vec<Failure>>> {
    let ended = running.end(signal)?;
    let last_step = run_folder::last_step(run)?;
    let newest = run_folder::newest_whole(run)?.unwrap_or(0);
    let mut failures = Vec::new();
    match ended.exit {
        Exit::Code(code) if code == signal.exit_code() => {
            let command = format!("train --resume --run {}", run.display());
            if last_step > 0 && !ended.stderr.contains(&command) {
                let text = format!("{} did not say `{command}`: {}", signal.name(), ended.last_words());
                failures.push(Failure::new(Kind::Answer, text));
            }
            if newest != last_step {
                let text =
                    format!("{} in step {last_step}: the newest checkpoint is {newest}", signal.name());
                failures.push(Failure::new(Kind::Lost, text));
            }
        }
        // Nothing was done yet that has to be saved.
        Exit::Signal(number) if number == signal.number() && last_step == 0 => {}
        // It was on its way out.
        Exit::Code(0) => return Ok(None),
        _ => failures.push(unexpected(&format!("after {} in step {last_step}", signal.name()), &ended)),
    }
    Ok(Some(failures))
}

/// The second signal does not wait for the step.
pub(crate) fn stop_twice(running: Running, delay: Duration) -> anyhow::Result<Option<Vec<Failure>>> {
    running.send(Signal::Interrupt)?;
    thread::sleep(delay);
    let ended = running.end(Signal::Interrupt)?;
    Ok(match ended.exit {
        Exit::Code(code) if code == Signal::Interrupt.exit_code() => Some(Vec::new()),
        Exit::Code(0) => None,
        _ => Some(vec![unexpected("after two SIGINT", &ended)]),
    })
}

/// Asks for a checkpoint, which has to come before the next that is due, and lets the run go on to its end.
pub(crate) fn save(mut running: Running, run: &Path) -> anyhow::Result<Vec<Failure>> {
    running.send(Signal::User1)?;
    let step = run_folder::last_step(run)?;
    let mut saved = false;
    while !saved && !running.is_over()? && run_folder::last_step(run)? < step + 2 * CHECKPOINT_INTERVAL {
        saved = run_folder::steps(run)?.iter().any(|step| !step.is_multiple_of(CHECKPOINT_INTERVAL));
        thread::sleep(POLL);
    }
    let ended = running.wait()?;
    let mut failures = Vec::new();
    if !saved {
        failures.push(Failure::new(Kind::Answer, format!("no checkpoint came of SIGUSR1 in step {step}")));
    }
    if ended.exit != Exit::Code(0) {
        failures.push(unexpected("after SIGUSR1", &ended));
    }
    Ok(failures)
}

pub(crate) fn unexpected(when: &str, ended: &Ended) -> Failure {
    Failure::new(Kind::Answer, format!("{} {when}: {}", ended.exit, ended.last_words()))
}
