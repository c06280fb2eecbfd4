//! The folder of all trials, with the undisturbed reference run.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::Signal;
use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::{
    compare,
    kill_time::KillTime,
    process::{CHECKPOINT_INTERVAL, Kindling, MAX_STEPS},
    run_folder,
};

/// The newest checkpoint of the half-way run. The few remaining steps include one of each interval.
pub(crate) const HALF_WAY: u64 = 40;
const _: () =
    assert!(HALF_WAY.is_multiple_of(CHECKPOINT_INTERVAL) && HALF_WAY + CHECKPOINT_INTERVAL < MAX_STEPS);

/// Maximum number of attempts for a trial that misses its time.
const N_ATTEMPTS: usize = 10;

pub(crate) struct TestDir {
    pub(crate) kindling: Kindling,
    /// An undisturbed run.
    pub(crate) reference: PathBuf,
    /// A run that was killed after its checkpoint of step [`HALF_WAY`].
    pub(crate) half_way: PathBuf,
    /// Duration of a run.
    pub(crate) run_time: Duration,
    /// Time to the first step, including tokenization.
    pub(crate) start_time: Duration,
}

impl TestDir {
    /// Makes the text and both runs, and checks that a second undisturbed run equals the reference.
    pub(crate) fn new(folder: &Path) -> anyhow::Result<Self> {
        let [text, reference, half_way, again] =
            ["text.txt", "reference", "half-way", "again"].map(|name| folder.join(name));
        fs::write(&text, words())?;
        let kindling = Kindling { text, folder: folder.to_owned() };

        let started = Instant::now();
        let mut running = kindling.start(&reference)?;
        KillTime::Step(1).wait(&mut running, &reference)?;
        let start_time = started.elapsed();
        running.wait()?.check_success()?;
        let started = Instant::now();
        kindling.start(&again)?.wait()?.check_success()?;
        let run_time = started.elapsed();
        until_in_time(&half_way, || {
            let mut running = kindling.start(&half_way)?;
            KillTime::Checkpoint(HALF_WAY).wait(&mut running, &half_way)?;
            running.end(Signal::SIGKILL)?;
            let steps = run_folder::steps(&half_way)?;
            let is_usable = run_folder::newest_whole(&half_way)? == Some(HALF_WAY) && steps.len() > 1;
            Ok(is_usable.then_some(()))
        })?;

        let test_dir = Self { kindling, reference, half_way, run_time, start_time };
        test_dir.check_equal(&again).context("two undisturbed runs")?;
        Ok(test_dir)
    }

    /// Checks that a finished run equals the reference.
    pub(crate) fn check_equal(&self, run: &Path) -> anyhow::Result<()> {
        let differences = compare::differences(&self.reference, run)?;
        ensure!(differences.is_empty(), "not the undisturbed run: {}", differences.join("; "));
        Ok(())
    }

    /// Resumes a run from its newest whole checkpoint, or starts it again without one, and compares the finished run.
    pub(crate) fn recover(&self, kindling: &Kindling, run: &Path) -> anyhow::Result<&'static str> {
        run_folder::check_not_torn(run)?;
        let newest = run_folder::newest_whole(run)?;
        let before = run_folder::metrics(run)?;
        let ended = kindling.resume(run)?.wait()?;
        let outcome = match (ended.code(), newest) {
            (Some(0), _) => {
                check_resumed_from(newest, run_folder::resumed_from(&before, &run_folder::metrics(run)?))?;
                "resumed"
            }
            (Some(1), Some(MAX_STEPS)) => {
                ended.check_error()?;
                "done before"
            }
            (Some(1), None) => {
                ended.check_error()?;
                // A run folder with its final name has weights, so it can be resumed.
                ensure!(!run.exists(), "the run folder exists but can't be resumed: {ended}");
                kindling.start(run)?.wait()?.check_success().context("started anew")?;
                "started anew"
            }
            _ => bail!("resumed with the newest whole checkpoint {newest:?}: {ended}"),
        };
        self.check_equal(run)?;
        Ok(outcome)
    }
}

fn check_resumed_from(newest: Option<u64>, resumed_from: Option<u64>) -> anyhow::Result<()> {
    let is_right = match resumed_from {
        Some(step) => step == newest.unwrap_or(0),
        None => newest == Some(MAX_STEPS),
    };
    ensure!(is_right, "resumed from {resumed_from:?}, not from the newest whole checkpoint {newest:?}");
    Ok(())
}

/// Repeats an attempt until it hits its time; removes the run folder after each miss.
pub(crate) fn until_in_time<T>(
    run: &Path,
    mut attempt: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    for _ in 0..N_ATTEMPTS {
        if let Some(done) = attempt()? {
            return Ok(done);
        }
        if run.exists() {
            fs::remove_dir_all(run)?;
        }
    }
    bail!("the time was missed {N_ATTEMPTS} times")
}

/// About 250 KB of text: pseudo-random words of a small vocabulary, always the same.
fn words() -> String {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut word =
        || -> String { (0..rng.random_range(2..9)).map(|_| rng.random_range('a'..='z')).collect() };
    let vocabulary: Vec<String> = (0..400).map(|_| word()).collect();
    let mut text = String::new();
    for word_idx in 1..=40_000 {
        text.push_str(&vocabulary[rng.random_range(0..vocabulary.len())]);
        text.push(if word_idx % 10 == 0 { '\n' } else { ' ' });
    }
    text
}

#[test]
fn a_run_must_resume_from_its_newest_checkpoint() {
    for (newest, resumed_from) in [(Some(8), Some(8)), (None, Some(0)), (Some(MAX_STEPS), None)] {
        check_resumed_from(newest, resumed_from).unwrap();
    }
    for resumed_from in [Some(0), Some(16), None] {
        check_resumed_from(Some(8), resumed_from).unwrap_err();
    }
}
