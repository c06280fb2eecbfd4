//! Points of time in a run, as they are seen from outside: by its folder.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{process::Running, run_folder};

/// How often a run folder is looked at.
pub(crate) const POLL: Duration = Duration::from_micros(50);

#[derive(Debug, Clone, Copy)]
pub(crate) enum KillTime {
    /// So long after now.
    After(Duration),
    /// The metrics have this step, or a later one.
    Step(u64),
    /// The checkpoint of this step has its name.
    Checkpoint(u64),
    /// A checkpoint is being written, the nth seen, from 1.
    WritingCheckpoint { nth: usize },
    /// Best weights are being written, the nth seen, from 1.
    WritingWeights { nth: usize },
}

impl KillTime {
    /// Waits until the run is there. False if it ends before.
    pub(crate) fn wait(self, running: &mut Running, run: &Path) -> anyhow::Result<bool> {
        const WEIGHTS: &str = "model.safetensors";
        let started = Instant::now();
        let any = |folder: &Path, is_it: fn(&str) -> bool| -> anyhow::Result<bool> {
            Ok(run_folder::names(folder)?.iter().any(|name| is_it(name)))
        };
        match self {
            Self::After(duration) => poll(running, || Ok(started.elapsed() >= duration)),
            Self::Step(step) => poll(running, || Ok(run_folder::last_step(run)? >= step)),
            Self::Checkpoint(step) => poll(running, || Ok(run_folder::checkpoint(run, step).exists())),
            Self::WritingCheckpoint { nth } => {
                let checkpoints = run.join("checkpoints");
                poll(running, nth_time(nth, || any(&checkpoints, |name| name.ends_with(".partial"))))
            }
            Self::WritingWeights { nth } => {
                poll(running, nth_time(nth, || any(run, |name| name.contains(WEIGHTS) && name != WEIGHTS)))
            }
        }
    }
}

/// Waits for a condition. False if the program ends before.
fn poll(running: &mut Running, mut condition: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<bool> {
    while !running.is_over()? {
        if condition()? {
            return Ok(true);
        }
        thread::sleep(POLL);
    }
    Ok(false)
}

/// A condition that is true as soon as another, false at times between, has become true `nth` times.
fn nth_time(
    nth: usize,
    mut condition: impl FnMut() -> anyhow::Result<bool>,
) -> impl FnMut() -> anyhow::Result<bool> {
    let (mut n_seen, mut was_true) = (0, false);
    move || {
        let is_true = condition()?;
        n_seen += usize::from(is_true && !was_true);
        was_true = is_true;
        Ok(n_seen >= nth)
    }
}

#[test]
fn a_condition_that_lasts_counts_once() {
    let mut seen = [false, true, true, false, true].into_iter();
    let mut twice = nth_time(2, || Ok(seen.next().unwrap()));
    let results: Vec<bool> = (0..5).map(|_| twice().unwrap()).collect();
    assert_eq!(results, [false, false, false, false, true]);
}
