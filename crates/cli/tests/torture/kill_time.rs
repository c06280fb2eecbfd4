//! Points in time during a run, detected from its folder.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{process::Running, run_folder};

/// Interval for polling a run folder.
pub(crate) const POLL: Duration = Duration::from_micros(50);

#[derive(Debug, Clone, Copy)]
pub(crate) enum KillTime {
    /// After this duration.
    After(Duration),
    /// The metrics have this step, or a later one.
    Step(u64),
    /// The checkpoint of this step is complete.
    Checkpoint(u64),
    /// The nth observed checkpoint is being written, from 1.
    WritingCheckpoint { nth: usize },
    /// The nth observed best weights are being written, from 1.
    WritingWeights { nth: usize },
}

impl KillTime {
    /// Waits until the run reaches this time. False if the run ends first.
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

/// Waits for a condition. False if the process ends first.
fn poll(running: &mut Running, mut condition: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<bool> {
    while !running.is_over()? {
        if condition()? {
            return Ok(true);
        }
        thread::sleep(POLL);
    }
    Ok(false)
}

/// A condition that becomes true once the inner condition has changed from false to true `nth` times.
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
