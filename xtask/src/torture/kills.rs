//! Runs that are killed or stopped by a signal, and gone on with.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::bail;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::ground::{Ground, N_ATTEMPTS};
use super::moment::{Moment, reached};
use super::program::{CHECKPOINT_INTERVAL, EVAL_INTERVAL, Exit, MAX_STEPS, Program, Running};
use super::report::{Failure, Kind, Trial};
use super::run_folder;
use super::signal::Signal;
use super::stops::{save, stop, stop_twice, unexpected};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    AnyMoment,
    Start,
    FirstStep,
    LastStep,
    Evaluation,
    Checkpoint,
    Weights,
    Resume,
    Repeated,
    Interrupt,
    Terminate,
    Twice,
    Save,
    SaveKilled,
}

/// One of each kind early, so that a short harness has most of them.
const CYCLE: [Fault; 20] = [
    Fault::AnyMoment,
    Fault::Checkpoint,
    Fault::Terminate,
    Fault::Resume,
    Fault::LastStep,
    Fault::Save,
    Fault::Start,
    Fault::Weights,
    Fault::Interrupt,
    Fault::Evaluation,
    Fault::AnyMoment,
    Fault::FirstStep,
    Fault::SaveKilled,
    Fault::Repeated,
    Fault::Checkpoint,
    Fault::AnyMoment,
    Fault::Twice,
    Fault::Weights,
    Fault::Resume,
    Fault::AnyMoment,
];

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::AnyMoment => "SIGKILL at any moment",
            Self::Start => "SIGKILL before the first step",
            Self::FirstStep => "SIGKILL in the first steps",
            Self::LastStep => "SIGKILL in the last step",
            Self::Evaluation => "SIGKILL in an evaluation",
            Self::Checkpoint => "SIGKILL in a checkpoint",
            Self::Weights => "SIGKILL in best weights",
            Self::Resume => "SIGKILL in a resume",
            Self::Repeated => "SIGKILL again and again",
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
            Self::Twice => "SIGINT twice",
            Self::Save => "SIGUSR1",
            Self::SaveKilled => "SIGUSR1, then SIGKILL",
        }
    }
}

/// The trial of number `trial_idx`, in an empty folder.
pub(crate) fn attempt(
    ground: &Ground,
    folder: &Path,
    trial_idx: usize,
    rng: &mut ChaCha8Rng,
) -> anyhow::Result<Trial> {
    let fault = CYCLE[trial_idx % CYCLE.len()];
    for _ in 0..N_ATTEMPTS {
        let run = folder.join("run");
        let program = match fault {
            // The text is tokenized anew.
            Fault::Start => Program { folder: folder.to_owned(), ..ground.program.clone() },
            _ => ground.program.clone(),
        };
        if let Some(mut failures) = strike(fault, ground, &program, &run, rng)? {
            let outcome = if fault == Fault::Save && !failures.iter().any(|it| it.kind == Kind::Answer) {
                failures.extend(ground.differences(&run)?);
                "went on"
            } else {
                let (outcome, more) = ground.recover(&program, &run)?;
                failures.extend(more);
                outcome
            };
            failures.extend(left_beside(folder)?);
            return Ok(Trial { fault: fault.name().to_owned(), outcome: outcome.to_owned(), failures });
        }
        clear(folder)?;
    }
    bail!("{}: the moment was missed {N_ATTEMPTS} times", fault.name())
}

/// A new run that never got its name is no use to anyone.
fn left_beside(folder: &Path) -> anyhow::Result<Option<Failure>> {
    let left = run_folder::names(folder)?
        .into_iter()
        .find(|name| name.starts_with("run.") || name.starts_with(".run"));
    Ok(left.map(|name| Failure::new(Kind::Different, format!("{name} is left over beside the run"))))
}

/// Makes a run and does to it what `fault` says. None if the run was done before that.
fn strike(
    fault: Fault,
    ground: &Ground,
    program: &Program,
    run: &Path,
    rng: &mut ChaCha8Rng,
) -> anyhow::Result<Option<Vec<Failure>>> {
    let any = |rng: &mut ChaCha8Rng| Moment::After(random(rng, ground.run_time));
    let (moment, delay) = match fault {
        Fault::AnyMoment | Fault::Interrupt | Fault::Terminate => (any(rng), Duration::ZERO),
        Fault::Start => (Moment::After(random(rng, ground.start_time)), Duration::ZERO),
        Fault::FirstStep => (Moment::Step(1), milliseconds(rng, 15)),
        Fault::LastStep => (Moment::Step(MAX_STEPS - rng.random_range(0..=1)), milliseconds(rng, 12)),
        Fault::Evaluation => {
            let step = EVAL_INTERVAL * rng.random_range(1..MAX_STEPS / EVAL_INTERVAL);
            (Moment::Step(step), milliseconds(rng, 8))
        }
        Fault::Checkpoint => {
            (Moment::CheckpointWritten { nth: rng.random_range(1..10) }, milliseconds(rng, 4))
        }
        Fault::Weights => (Moment::WeightsWritten { nth: rng.random_range(1..4) }, milliseconds(rng, 2)),
        Fault::Twice => (Moment::Step(rng.random_range(1..MAX_STEPS)), Duration::ZERO),
        // A step whose next ones are due for no checkpoint, so that one there was asked for.
        Fault::Save | Fault::SaveKilled => {
            let step = CHECKPOINT_INTERVAL * rng.random_range(0..MAX_STEPS / CHECKPOINT_INTERVAL - 1);
            (Moment::Step(step + rng.random_range(1..CHECKPOINT_INTERVAL / 2)), Duration::ZERO)
        }
        Fault::Resume => return resume_killed(ground, program, run, rng),
        Fault::Repeated => return repeatedly(ground, program, run, rng),
    };
    let Some(running) = at(program.start(run)?, run, moment, delay)? else { return Ok(None) };
    match fault {
        Fault::Interrupt => stop(running, Signal::Interrupt, run),
        Fault::Terminate => stop(running, Signal::Terminate, run),
        Fault::Twice => stop_twice(running, milliseconds(rng, 4)),
        Fault::Save => save(running, run).map(Some),
        Fault::SaveKilled => {
            running.send(Signal::User1)?;
            thread::sleep(milliseconds(rng, 30));
            kill(running)
        }
        _ => kill(running),
    }
}

/// The run at a moment, unless it is over by then.
fn at(mut running: Running, run: &Path, moment: Moment, delay: Duration) -> anyhow::Result<Option<Running>> {
    if !reached(moment, &mut running, run)? {
        return Ok(None);
    }
    thread::sleep(delay);
    Ok(Some(running))
}

fn kill(running: Running) -> anyhow::Result<Option<Vec<Failure>>> {
    let ended = running.end(Signal::Kill)?;
    Ok(match ended.exit {
        Exit::Signal(_) => Some(Vec::new()),
        Exit::Code(0) => None,
        _ => Some(vec![unexpected("before it was killed", &ended)]),
    })
}

/// Kills a run anywhere, goes on with it and kills that while it reads what is there.
fn resume_killed(
    ground: &Ground,
    program: &Program,
    run: &Path,
    rng: &mut ChaCha8Rng,
) -> anyhow::Result<Option<Vec<Failure>>> {
    let first = Moment::Step(rng.random_range(1..MAX_STEPS - CHECKPOINT_INTERVAL));
    let Some(running) = at(program.start(run)?, run, first, Duration::ZERO)? else { return Ok(None) };
    let Some(failures) = kill(running)? else { return Ok(None) };
    if !failures.is_empty() {
        return Ok(Some(failures));
    }
    let second = Moment::After(random(rng, ground.start_time));
    let Some(running) = at(go_on(program, run)?, run, second, Duration::ZERO)? else { return Ok(None) };
    kill(running)
}

/// Kills a run and what goes on with it, three to five times, unless it is done before.
fn repeatedly(
    ground: &Ground,
    program: &Program,
    run: &Path,
    rng: &mut ChaCha8Rng,
) -> anyhow::Result<Option<Vec<Failure>>> {
    let mut killed = None;
    for _ in 0..rng.random_range(3..=5) {
        let moment = Moment::After(random(rng, ground.run_time));
        let Some(running) = at(go_on(program, run)?, run, moment, Duration::ZERO)? else { break };
        let Some(failures) = kill(running)? else { break };
        if !failures.is_empty() {
            return Ok(Some(failures));
        }
        killed = Some(failures);
    }
    Ok(killed)
}

/// Resumes, or starts where there is nothing to resume.
fn go_on(program: &Program, run: &Path) -> anyhow::Result<Running> {
    if run_folder::newest_whole(run)?.is_some() {
        return program.resume(run);
    }
    if run.exists() {
        fs::remove_dir_all(run)?;
    }
    program.start(run)
}

fn random(rng: &mut ChaCha8Rng, below: Duration) -> Duration {
    below.mul_f64(rng.random())
}

fn milliseconds(rng: &mut ChaCha8Rng, below: u64) -> Duration {
    random(rng, Duration::from_millis(below))
}

fn clear(folder: &Path) -> anyhow::Result<()> {
    fs::remove_dir_all(folder)?;
    Ok(fs::create_dir(folder)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_are_sigkill_and_every_fault_has_its_turn() {
        let is_kill = |fault: &&Fault| fault.name().starts_with("SIGKILL");
        assert!(2 * CYCLE.iter().filter(is_kill).count() > CYCLE.len());
        for fault in [
            Fault::AnyMoment,
            Fault::Start,
            Fault::FirstStep,
            Fault::LastStep,
            Fault::Evaluation,
            Fault::Checkpoint,
            Fault::Weights,
            Fault::Resume,
            Fault::Repeated,
            Fault::Interrupt,
            Fault::Terminate,
            Fault::Twice,
            Fault::Save,
            Fault::SaveKilled,
        ] {
            assert!(CYCLE.contains(&fault), "{fault:?}");
        }
    }
}
