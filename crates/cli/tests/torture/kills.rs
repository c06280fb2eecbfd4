//! Runs that are killed or stopped by a signal, and resumed.

use std::{fs, path::Path, thread, time::Duration};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::Signal;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{
    kill_time::{KillTime, POLL},
    process::{CHECKPOINT_INTERVAL, EVAL_INTERVAL, Kindling, MAX_STEPS, Running},
    run_folder,
    test_dir::{TestDir, until_in_time},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    KillAtAnyTime,
    KillBeforeFirstStep,
    KillInFirstSteps,
    KillInLastStep,
    KillInEvaluation,
    KillInCheckpoint,
    KillInBestWeights,
    KillInResume,
    KillRepeatedly,
    Interrupt,
    Terminate,
    InterruptTwice,
    Save,
    SaveThenKill,
}

/// The order of faults. Most kinds come early, because `cargo test` runs only the first few trials.
const CYCLE: [Fault; 20] = [
    Fault::KillInCheckpoint,
    Fault::KillInBestWeights,
    Fault::Terminate,
    Fault::KillInResume,
    Fault::Save,
    Fault::KillAtAnyTime,
    Fault::KillBeforeFirstStep,
    Fault::KillInLastStep,
    Fault::KillInEvaluation,
    Fault::InterruptTwice,
    Fault::KillInFirstSteps,
    Fault::SaveThenKill,
    Fault::KillRepeatedly,
    Fault::Interrupt,
    Fault::KillAtAnyTime,
    Fault::KillInCheckpoint,
    Fault::KillInBestWeights,
    Fault::KillAtAnyTime,
    Fault::KillInResume,
    Fault::KillAtAnyTime,
];

pub(crate) fn attempt(
    test_dir: &TestDir,
    folder: &Path,
    trial_idx: usize,
    rng: &mut ChaCha8Rng,
) -> anyhow::Result<String> {
    let fault = CYCLE[trial_idx % CYCLE.len()];
    let kindling = match fault {
        // Without the prepared data of other runs.
        Fault::KillBeforeFirstStep => Kindling { folder: folder.to_owned(), ..test_dir.kindling.clone() },
        _ => test_dir.kindling.clone(),
    };
    let mut trial = Trial { test_dir, kindling, run: &folder.join("run"), rng };
    let outcome = trial.outcome(fault).with_context(|| format!("{fault:?}"))?;
    let left = run_folder::names(folder)?
        .into_iter()
        .find(|name| name.starts_with("run.") || name.starts_with(".run"));
    ensure!(left.is_none(), "{fault:?}: {left:?} is left over beside the run");
    Ok(format!("{fault:?}: {outcome}"))
}

struct Trial<'a> {
    test_dir: &'a TestDir,
    kindling: Kindling,
    run: &'a Path,
    rng: &'a mut ChaCha8Rng,
}

impl Trial<'_> {
    fn outcome(&mut self, fault: Fault) -> anyhow::Result<&'static str> {
        until_in_time(self.run, || self.strike(fault))?;
        if fault == Fault::Save {
            self.test_dir.check_equal(self.run)?;
            return Ok("continued");
        }
        self.test_dir.recover(&self.kindling, self.run)
    }

    /// Starts a run and injects the fault. None if the run finished first.
    fn strike(&mut self, fault: Fault) -> anyhow::Result<Option<()>> {
        match fault {
            Fault::KillInResume => return self.kill_in_resume(),
            Fault::KillRepeatedly => return self.kill_repeatedly(),
            _ => {}
        }
        let (time, delay_ms_max) = self.time_of(fault);
        let Some(running) = self.at(self.kindling.start(self.run)?, time)? else { return Ok(None) };
        self.wait_below(Duration::from_millis(delay_ms_max));
        match fault {
            Fault::Interrupt => stop(running, Signal::SIGINT, self.run),
            Fault::Terminate => stop(running, Signal::SIGTERM, self.run),
            Fault::InterruptTwice => {
                running.send(Signal::SIGINT)?;
                self.wait_below(Duration::from_millis(4));
                let ended = running.end(Signal::SIGINT)?;
                match ended.code() {
                    Some(130) => Ok(Some(())),
                    Some(0) => Ok(None),
                    _ => bail!("after two SIGINT: {ended}"),
                }
            }
            Fault::Save => save(running, self.run).map(Some),
            Fault::SaveThenKill => {
                running.send(Signal::SIGUSR1)?;
                self.wait_below(Duration::from_millis(30));
                kill(running)
            }
            _ => kill(running),
        }
    }

    /// The time of a fault, and the maximum random delay after it in milliseconds.
    fn time_of(&mut self, fault: Fault) -> (KillTime, u64) {
        match fault {
            Fault::KillBeforeFirstStep => (self.below(self.test_dir.start_time), 0),
            Fault::KillInFirstSteps => (KillTime::Step(1), 15),
            Fault::KillInLastStep => (KillTime::Step(MAX_STEPS - self.rng.random_range(0..=1)), 12),
            Fault::KillInEvaluation => {
                (KillTime::Step(EVAL_INTERVAL * self.rng.random_range(1..MAX_STEPS / EVAL_INTERVAL)), 8)
            }
            Fault::KillInCheckpoint => (KillTime::WritingCheckpoint { nth: self.rng.random_range(1..7) }, 4),
            Fault::KillInBestWeights => (KillTime::WritingWeights { nth: self.rng.random_range(1..4) }, 2),
            Fault::InterruptTwice => (KillTime::Step(self.rng.random_range(1..MAX_STEPS)), 0),
            // No checkpoint is due in the next steps, so that one there was requested.
            Fault::Save | Fault::SaveThenKill => {
                let step =
                    CHECKPOINT_INTERVAL * self.rng.random_range(0..MAX_STEPS / CHECKPOINT_INTERVAL - 1);
                (KillTime::Step(step + self.rng.random_range(1..CHECKPOINT_INTERVAL / 2)), 0)
            }
            _ => (self.below(self.test_dir.run_time), 0),
        }
    }

    /// Kills a run at any step, resumes it, and kills it again while it reads its files.
    fn kill_in_resume(&mut self) -> anyhow::Result<Option<()>> {
        let first = KillTime::Step(self.rng.random_range(1..MAX_STEPS - CHECKPOINT_INTERVAL));
        let second = self.below(self.test_dir.start_time);
        for time in [first, second] {
            let Some(running) = self.at(self.resume_or_start()?, time)? else { return Ok(None) };
            let Some(()) = kill(running)? else { return Ok(None) };
        }
        Ok(Some(()))
    }

    /// Kills a run and its resumed processes three to five times, or until it finishes.
    fn kill_repeatedly(&mut self) -> anyhow::Result<Option<()>> {
        let mut killed = None;
        for _ in 0..self.rng.random_range(3..=5) {
            let time = self.below(self.test_dir.run_time);
            let Some(running) = self.at(self.resume_or_start()?, time)? else { break };
            let Some(()) = kill(running)? else { break };
            killed = Some(());
        }
        Ok(killed)
    }

    fn resume_or_start(&self) -> anyhow::Result<Running> {
        if run_folder::newest_whole(self.run)?.is_some() {
            return self.kindling.resume(self.run);
        }
        if self.run.exists() {
            fs::remove_dir_all(self.run)?;
        }
        self.kindling.start(self.run)
    }

    /// Waits until the run reaches a time. None if it ended first.
    fn at(&self, mut running: Running, time: KillTime) -> anyhow::Result<Option<Running>> {
        Ok(time.wait(&mut running, self.run)?.then_some(running))
    }

    fn below(&mut self, duration: Duration) -> KillTime {
        KillTime::After(duration.mul_f64(self.rng.random()))
    }

    fn wait_below(&mut self, duration: Duration) {
        thread::sleep(duration.mul_f64(self.rng.random()));
    }
}

fn kill(running: Running) -> anyhow::Result<Option<()>> {
    let ended = running.end(Signal::SIGKILL)?;
    match (ended.signal(), ended.code()) {
        (Some(_), _) => Ok(Some(())),
        (_, Some(0)) => Ok(None),
        _ => bail!("before it was killed: {ended}"),
    }
}

/// Stops a run, which must save its last step, print how to resume and exit with the signal's code. None if it finished
/// first.
fn stop(running: Running, signal: Signal, run: &Path) -> anyhow::Result<Option<()>> {
    let ended = running.end(signal)?;
    let last_step = run_folder::last_step(run)?;
    let newest = run_folder::newest_whole(run)?.unwrap_or(0);
    let number = signal as i32;
    match (ended.code(), ended.signal()) {
        (Some(code), _) if code == 128 + number => {
            let command = format!("train --resume --run {}", run.display());
            ensure!(
                last_step == 0 || ended.stderr.contains(&command),
                "{signal} did not say `{command}`: {ended}"
            );
            ensure!(newest == last_step, "{signal} in step {last_step}: the newest checkpoint is {newest}");
            Ok(Some(()))
        }
        (_, Some(ended_by)) if ended_by == number && last_step == 0 => Ok(Some(())), // Nothing to save.
        (Some(0), _) => Ok(None),
        _ => bail!("{signal} in step {last_step}: {ended}"),
    }
}

/// Requests a checkpoint, which must be written before the next one is due, and lets the run finish.
fn save(mut running: Running, run: &Path) -> anyhow::Result<()> {
    running.send(Signal::SIGUSR1)?;
    let step = run_folder::last_step(run)?;
    let mut saved = false;
    while !saved && !running.is_over()? && run_folder::last_step(run)? < step + 2 * CHECKPOINT_INTERVAL {
        saved = run_folder::steps(run)?.iter().any(|step| !step.is_multiple_of(CHECKPOINT_INTERVAL));
        thread::sleep(POLL);
    }
    running.wait()?.check_success()?;
    ensure!(saved, "SIGUSR1 in step {step} saved no checkpoint");
    Ok(())
}
