//! What every trial starts from and ends with: the reference run, and a run that is gone on with to its end.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::compare;
use super::moment::{Moment, reached};
use super::program::{CHECKPOINT_INTERVAL, Ended, Exit, MAX_STEPS, Program};
use super::report::{Failure, Kind};
use super::run_folder;
use super::signal::Signal;

/// The newest checkpoint of a half-way run; few steps are left, and one of each interval is among them.
pub(crate) const HALF_WAY: u64 = 72;

/// How often a moment is waited for that is missed now and then.
pub(crate) const N_ATTEMPTS: usize = 10;

pub(crate) struct Ground {
    pub(crate) program: Program,
    /// Where everything is.
    pub(crate) folder: PathBuf,
    /// A run that nothing happened to.
    pub(crate) reference: PathBuf,
    /// How long such a run takes.
    pub(crate) run_time: Duration,
    /// How long it takes of that to the first line of metrics, with the text still to be tokenized.
    pub(crate) start_time: Duration,
    half_way: OnceCell<PathBuf>,
}

impl Ground {
    /// Makes the text and the reference run, and sees that a second run is the same without any fault.
    pub(crate) fn new(binary: PathBuf, folder: &Path) -> anyhow::Result<Self> {
        let text = folder.join("text.txt");
        fs::write(&text, words())?;
        let program = Program { binary, text, folder: folder.to_owned() };
        let reference = folder.join("reference");

        let started = Instant::now();
        let mut running = program.start(&reference)?;
        reached(Moment::Step(1), &mut running, &reference)?;
        let start_time = started.elapsed();
        done(running.wait()?).context("the reference run")?;
        let started = Instant::now();
        let again = folder.join("again");
        done(program.start(&again)?.wait()?).context("the reference run, made again")?;
        let run_time = started.elapsed();

        let differences = compare::differences(&reference, &again, CHECKPOINT_INTERVAL)?;
        if !differences.is_empty() {
            bail!("two runs differ without any fault: {}", differences.join("; "));
        }
        fs::remove_dir_all(&again)?;
        let folder = folder.to_owned();
        Ok(Self { program, folder, reference, run_time, start_time, half_way: OnceCell::new() })
    }

    /// A run that was killed when the checkpoint of step [`HALF_WAY`] was there.
    pub(crate) fn half_way(&self) -> anyhow::Result<&Path> {
        if self.half_way.get().is_none() {
            let run = self.folder.join("half-way");
            self.make_half_way(&run)?;
            let _ = self.half_way.set(run); // It is not set: nothing else sets it.
        }
        self.half_way.get().map(PathBuf::as_path).context("the half-way run is made")
    }

    fn make_half_way(&self, run: &Path) -> anyhow::Result<()> {
        for _ in 0..N_ATTEMPTS {
            let mut running = self.program.start(run)?;
            reached(Moment::Checkpoint(HALF_WAY), &mut running, run)?;
            running.end(Signal::Kill)?;
            let is_of_use =
                run_folder::newest_whole(run)? == Some(HALF_WAY) && run_folder::steps(run)?.len() > 1;
            if is_of_use {
                return Ok(());
            }
            fs::remove_dir_all(run)?;
        }
        bail!("no run could be killed soon enough after its checkpoint of step {HALF_WAY}")
    }

    /// What differs from the reference.
    pub(crate) fn differences(&self, run: &Path) -> anyhow::Result<Vec<Failure>> {
        let differences = compare::differences(&self.reference, run, CHECKPOINT_INTERVAL)?;
        Ok(differences.into_iter().map(|text| Failure::new(Kind::Different, text)).collect())
    }

    /// Goes on with a run to its end, from its newest whole checkpoint or anew where there is none, and compares it.
    pub(crate) fn recover(
        &self,
        program: &Program,
        run: &Path,
    ) -> anyhow::Result<(&'static str, Vec<Failure>)> {
        let mut failures = torn(run)?;
        let newest = run_folder::newest_whole(run)?;
        let (before, _) = run_folder::metrics(run)?;
        let ended = program.resume(run)?.wait()?;
        let outcome = match (ended.exit, newest) {
            (Exit::Code(0), newest) => {
                let (after, _) = run_folder::metrics(run)?;
                failures.extend(wrong_beginning(newest, run_folder::resumed_from(&before, &after)));
                "resumed"
            }
            (Exit::Code(1), Some(MAX_STEPS)) => {
                failures.extend(Failure::of_error("a run that is done was resumed", &ended));
                "done before"
            }
            (Exit::Code(1), None) => {
                failures.extend(Failure::of_error("a run without a checkpoint was resumed", &ended));
                if run.exists() {
                    // A run gets its name with weights in it, from which it can go on.
                    let text = format!("it has its name and can't be gone on with: {}", ended.last_words());
                    failures.push(Failure::new(Kind::Unreadable, text));
                    fs::remove_dir_all(run)?;
                }
                let ended = program.start(run)?.wait()?;
                if ended.exit != Exit::Code(0) {
                    let text = format!("started anew: {}: {}", ended.exit, ended.last_words());
                    failures.push(Failure::new(Kind::Unreadable, text));
                    return Ok(("started anew", failures));
                }
                "started anew"
            }
            (exit, newest) => {
                let text = format!(
                    "resumed with the newest whole checkpoint {newest:?}: {exit}: {}",
                    ended.last_words()
                );
                failures.push(Failure::new(Kind::Unreadable, text));
                return Ok(("not resumed", failures));
            }
        };
        failures.extend(self.differences(run)?);
        Ok((outcome, failures))
    }
}

/// What a fault left behind that no fault of a process may leave. A checkpoint that others have replaced may be there
/// in part, as its removal left it.
fn torn(run: &Path) -> anyhow::Result<Vec<Failure>> {
    let (_, torn) = run_folder::metrics(run)?;
    let torn = torn.into_iter().map(|number| format!("line {number} of the metrics is not whole"));
    let newest = run_folder::newest_whole(run)?;
    let newer = run_folder::steps(run)?.into_iter().filter(|&step| Some(step) > newest);
    let damaged = newer.filter_map(|step| {
        let damage = run_folder::damage(&run_folder::checkpoint(run, step))?;
        Some(format!("the checkpoint of step {step} has its name and is not whole: {damage}"))
    });
    Ok(torn.chain(damaged).map(|text| Failure::new(Kind::Unreadable, text)).collect())
}

fn wrong_beginning(newest: Option<u64>, resumed_from: Option<u64>) -> Option<Failure> {
    let newest = newest.unwrap_or(0);
    let text = match resumed_from {
        Some(step) if step == newest => return None,
        None if newest == MAX_STEPS => return None,
        Some(step) => format!("it went on from step {step}, not from the newest whole checkpoint, {newest}"),
        None => format!("it did no step; the newest whole checkpoint is {newest}"),
    };
    Some(Failure::new(Kind::Lost, text))
}

fn done(ended: Ended) -> anyhow::Result<()> {
    match ended.exit {
        Exit::Code(0) => Ok(()),
        exit => bail!("{exit}: {}", ended.last_words()),
    }
}

/// About 250 KB of text: words of a small vocabulary, in no order.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_to_go_on_from_its_newest_checkpoint() {
        assert!(wrong_beginning(Some(8), Some(8)).is_none());
        assert!(wrong_beginning(None, Some(0)).is_none());
        assert!(wrong_beginning(Some(MAX_STEPS), None).is_none());
        for resumed_from in [Some(0), Some(16), None] {
            assert_eq!(wrong_beginning(Some(8), resumed_from).unwrap().kind, Kind::Lost);
        }
    }

    #[test]
    fn what_a_kill_may_not_leave_is_found() {
        let run = tempfile::tempdir().unwrap();
        run_folder::tests::write_run(run.path(), 4);
        assert!(torn(run.path()).unwrap().is_empty());
        fs::remove_file(run_folder::checkpoint(run.path(), 3).join("optimizer.bpk")).unwrap();
        assert!(torn(run.path()).unwrap().is_empty(), "a newer one is whole");
        fs::remove_file(run_folder::checkpoint(run.path(), 4).join("optimizer.bpk")).unwrap();
        let text = fs::read_to_string(run.path().join("metrics.jsonl")).unwrap();
        fs::write(run.path().join("metrics.jsonl"), &text[..text.len() - 5]).unwrap();
        let failures = torn(run.path()).unwrap();
        assert_eq!(failures.len(), 3, "both checkpoints and a line");
        assert!(failures.iter().all(|failure| failure.kind == Kind::Unreadable));
    }

    #[test]
    fn the_half_way_run_is_at_a_checkpoint_with_steps_left() {
        assert_eq!(HALF_WAY % CHECKPOINT_INTERVAL, 0);
        const { assert!(HALF_WAY + CHECKPOINT_INTERVAL < MAX_STEPS) };
    }

    #[test]
    fn every_harness_learns_the_same_text() {
        let words = words();
        assert_eq!(words, self::words());
        assert!((200_000..400_000).contains(&words.len()), "{}", words.len());
    }
}
