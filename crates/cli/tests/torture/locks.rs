//! Two processes on one run.

use std::path::Path;

use anyhow::{Context, ensure};
use rand_chacha::ChaCha8Rng;

use crate::{
    kill_time::KillTime,
    process::{Ended, Kindling, MAX_STEPS, Running},
    run_folder,
    test_dir::{TestDir, until_in_time},
};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    ResumeInFirstStep,
    ResumeWhileRunning,
    StartWhileRunning,
    TwoStarts,
    TwoResumes,
}

pub(crate) const FAULTS: [Fault; 5] = [
    Fault::ResumeInFirstStep,
    Fault::ResumeWhileRunning,
    Fault::StartWhileRunning,
    Fault::TwoStarts,
    Fault::TwoResumes,
];

pub(crate) fn attempt(
    test_dir: &TestDir,
    folder: &Path,
    trial_idx: usize,
    _rng: &mut ChaCha8Rng,
) -> anyhow::Result<String> {
    let fault = FAULTS[trial_idx % FAULTS.len()];
    let run = folder.join("run");
    strike(fault, test_dir, &run)
        .and_then(|()| test_dir.check_equal(&run))
        .with_context(|| format!("{fault:?}"))?;
    Ok(format!("{fault:?}: refused"))
}

fn strike(fault: Fault, test_dir: &TestDir, run: &Path) -> anyhow::Result<()> {
    let kindling = &test_dir.kindling;
    match fault {
        Fault::ResumeInFirstStep => {
            let (first, second, holder) = second(kindling, run, 1, Kindling::resume)?;
            check_refused(&first, &second, Some(holder))
        }
        Fault::ResumeWhileRunning => {
            let (first, second, holder) = second(kindling, run, MAX_STEPS / 3, Kindling::resume)?;
            check_refused(&first, &second, Some(holder))
        }
        Fault::StartWhileRunning => {
            let (first, second, _) = second(kindling, run, MAX_STEPS / 3, Kindling::start)?;
            check_refused(&first, &second, None)
        }
        Fault::TwoStarts => {
            let (winner, loser, _) = both(kindling.start(run)?, kindling.start(run)?)?;
            check_refused(&winner, &loser, None)
        }
        Fault::TwoResumes => {
            run_folder::copy(&test_dir.half_way, run)?;
            let (winner, loser, holder) = both(kindling.resume(run)?, kindling.resume(run)?)?;
            check_refused(&winner, &loser, Some(holder))
        }
    }
}

/// Starts a second process when the first is at `step`. The last item is the process id of the first.
fn second(
    kindling: &Kindling,
    run: &Path,
    step: u64,
    start_second: fn(&Kindling, &Path) -> anyhow::Result<Running>,
) -> anyhow::Result<(Ended, Ended, u32)> {
    until_in_time(run, || {
        let mut first = kindling.start(run)?;
        if !KillTime::Step(step).wait(&mut first, run)? {
            return Ok(None);
        }
        let holder = first.id();
        let second = start_second(kindling, run)?.wait()?;
        let was_in_time = !first.is_over()?;
        let first = first.wait()?;
        Ok(was_in_time.then_some((first, second, holder)))
    })
}

/// Waits for two processes started together: returns the one that succeeded, the other, and the id of the first.
fn both(first: Running, second: Running) -> anyhow::Result<(Ended, Ended, u32)> {
    let ids = [first.id(), second.id()];
    let (first, second) = (first.wait()?, second.wait()?);
    Ok(if first.status.success() { (first, second, ids[0]) } else { (second, first, ids[1]) })
}

/// Checks that one process finished and the other was refused, with the id of the process that holds the run if known.
fn check_refused(finished: &Ended, refused: &Ended, holder: Option<u32>) -> anyhow::Result<()> {
    finished.check_success().context("the process that holds the run")?;
    refused.check_error().context("the other process")?;
    let names = |id: u32| {
        let mut numbers = refused.stderr.split(|letter: char| !letter.is_ascii_digit());
        numbers.any(|number| number == id.to_string())
    };
    ensure!(holder.is_none_or(names), "the error does not name process {holder:?}: {refused}");
    Ok(())
}

#[test]
fn a_refusal_names_the_process_that_holds_the_run() {
    use crate::process::tests::ended;
    let check = |code, stderr: &str| check_refused(&ended(0, ""), &ended(code, stderr), Some(42));
    check(1, "error: process 42 has it\n").unwrap();
    check(1, "error: process 421 has it\n").unwrap_err();
    check(0, "process 42 has it\n").unwrap_err();
    check_refused(&ended(1, "error: it\n"), &ended(1, "error: process 42 has it\n"), None).unwrap_err();
}
