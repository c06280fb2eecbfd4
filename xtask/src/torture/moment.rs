//! Moments of a run, as one sees them from outside: by its folder.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::program::{POLL, Running};
use super::run_folder;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Moment {
    /// So long after now.
    After(Duration),
    /// The metrics have this step, or a later one.
    Step(u64),
    /// The checkpoint of this step is there under its name.
    Checkpoint(u64),
    /// A checkpoint is being written, and it is the `nth`, from 1, that is seen.
    CheckpointWritten { nth: usize },
    /// New best weights are being written, and they are the `nth`, from 1, that are seen.
    WeightsWritten { nth: usize },
}

/// Waits for `moment`. False if the run ends before.
pub(crate) fn reached(moment: Moment, running: &mut Running, run: &Path) -> anyhow::Result<bool> {
    match moment {
        Moment::After(duration) => {
            let started = Instant::now();
            until(running, || Ok(started.elapsed() >= duration))
        }
        Moment::Step(step) => until(running, || Ok(run_folder::last_step(run)? >= step)),
        Moment::Checkpoint(step) => until(running, || Ok(run_folder::checkpoint(run, step).exists())),
        Moment::CheckpointWritten { nth } => until(
            running,
            nth_time(nth, || is_any(&run.join("checkpoints"), &|name| name.ends_with(".partial"))),
        ),
        Moment::WeightsWritten { nth } => {
            let is_temporary = |name: &str| name.contains(WEIGHTS) && name != WEIGHTS;
            until(running, nth_time(nth, move || is_any(run, &is_temporary)))
        }
    }
}

const WEIGHTS: &str = "model.safetensors";

fn is_any(folder: &Path, is_it: &dyn Fn(&str) -> bool) -> anyhow::Result<bool> {
    Ok(run_folder::names(folder)?.iter().any(|name| is_it(name)))
}

/// True from when a condition, false at times between, has held `nth` times.
fn nth_time(
    nth: usize,
    mut condition: impl FnMut() -> anyhow::Result<bool>,
) -> impl FnMut() -> anyhow::Result<bool> {
    let (mut n_seen, mut held) = (0, false);
    move || {
        let holds = condition()?;
        n_seen += usize::from(holds && !held);
        held = holds;
        Ok(n_seen >= nth)
    }
}

fn until(running: &mut Running, mut condition: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<bool> {
    while !running.is_over()? {
        if condition()? {
            return Ok(true);
        }
        thread::sleep(POLL);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_lasts_counts_once() {
        let mut seen = [false, true, true, false, true].into_iter();
        let mut twice = nth_time(2, || Ok(seen.next().unwrap()));
        let results: Vec<bool> = (0..5).map(|_| twice().unwrap()).collect();
        assert_eq!(results, [false, false, false, false, true]);
    }
}
