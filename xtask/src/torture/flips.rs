//! Checkpoints with one byte changed, or cut short.

use std::fs;
use std::path::Path;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::ground::{Ground, HALF_WAY};
use super::program::{Ended, Exit};
use super::report::{Failure, Kind, Trial};
use super::run_folder::{self, names};

/// Which checkpoints of a run are damaged, each in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Newest,
    Older,
    All,
}

impl Target {
    /// The one before is there to show that it is left alone; the last one, that there is an error.
    fn of_trial(trial_idx: usize) -> Self {
        match trial_idx % 10 {
            3 | 6 => Self::Older,
            9 => Self::All,
            _ => Self::Newest,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Newest => "byte of the newest checkpoint",
            Self::Older => "byte of an older checkpoint",
            Self::All => "byte of every checkpoint",
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
    let target = Target::of_trial(trial_idx);
    let run = folder.join("run");
    run_folder::copy(ground.half_way()?, &run)?;
    let mut steps = run_folder::steps(&run)?;
    let damaged = match target {
        Target::Newest => steps.split_off(steps.len() - 1),
        Target::Older => vec![steps[rng.random_range(0..steps.len() - 1)]],
        Target::All => steps,
    };
    let damage: Vec<String> = damaged
        .into_iter()
        .map(|step| damage(&run_folder::checkpoint(&run, step), rng))
        .collect::<anyhow::Result<_>>()?;

    let mut older = run_folder::steps(&run)?.into_iter().rev().filter(|&step| step < HALF_WAY);
    let fallback = older.find(|&step| run_folder::damage(&run_folder::checkpoint(&run, step)).is_none());
    let (before, _) = run_folder::metrics(&run)?;
    let ended = ground.program.resume(&run)?.wait()?;
    let (after, _) = run_folder::metrics(&run)?;
    let resumed_from = run_folder::resumed_from(&before, &after);
    let (outcome, failure) = judge(target, fallback, &ended, resumed_from);
    let mut failures: Vec<Failure> = failure.into_iter().collect();
    if ended.exit == Exit::Code(0) {
        failures.extend(ground.differences(&run)?);
    }
    for failure in &mut failures {
        failure.text = format!("{}: {}", damage.join(", "), failure.text);
    }
    Ok(Trial { fault: target.name().to_owned(), outcome: outcome.to_owned(), failures })
}

/// Whether the program answered as it should, but for the run that came of it. `fallback` is the newest checkpoint that
/// is whole, beside the newest of all.
fn judge(
    target: Target,
    fallback: Option<u64>,
    ended: &Ended,
    resumed_from: Option<u64>,
) -> (&'static str, Option<Failure>) {
    let newest_is_damaged = target != Target::Older;
    match ended.exit {
        Exit::Code(0) if resumed_from == Some(HALF_WAY) => ("harmless", None),
        Exit::Code(0) if newest_is_damaged && fallback.is_some() && resumed_from == fallback => {
            let is_silent = !ended.stderr.to_lowercase().contains("warn");
            let silent = || Failure::new(Kind::Answer, "passed over without a warning");
            ("detected", is_silent.then(silent))
        }
        Exit::Code(0) => {
            let text = format!("it went on from step {resumed_from:?}, not from {fallback:?} or {HALF_WAY}");
            ("resumed", Some(Failure::new(Kind::Lost, text)))
        }
        Exit::Code(1) if newest_is_damaged && fallback.is_none() => {
            ("detected", Failure::of_error("no checkpoint is whole", ended))
        }
        exit => {
            let text = format!("{exit}: {}", ended.last_words());
            ("not resumed", Some(Failure::new(Kind::Unreadable, text)))
        }
    }
}

/// Damages one file of a checkpoint, and says how.
fn damage(checkpoint: &Path, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let names = names(checkpoint)?;
    let name = &names[rng.random_range(0..names.len())];
    let path = checkpoint.join(name);
    let mut contents = fs::read(&path)?;
    let how = change(&mut contents, rng);
    fs::write(&path, contents)?;
    Ok(format!("{name} {how}"))
}

/// Cuts a file short, one time in four, or changes one byte of it.
fn change(contents: &mut Vec<u8>, rng: &mut ChaCha8Rng) -> String {
    let byte_idx = rng.random_range(0..contents.len());
    if rng.random_ratio(1, 4) {
        let before = contents.len();
        contents.truncate(byte_idx);
        return format!("cut to {byte_idx} of {before} bytes");
    }
    let before = contents[byte_idx];
    contents[byte_idx] ^= rng.random_range(1..=u8::MAX);
    format!("byte {byte_idx} {:#04x} for {before:#04x}", contents[byte_idx])
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn a_change_is_one_byte_or_a_shorter_file() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut n_cut = 0;
        for _ in 0..200 {
            let before: Vec<u8> = (0..50).collect();
            let mut after = before.clone();
            change(&mut after, &mut rng);
            let n_unequal = before.iter().zip(&after).filter(|(a, b)| a != b).count();
            if after.len() < before.len() {
                n_cut += 1;
                assert_eq!(n_unequal, 0);
            } else {
                assert_eq!(n_unequal, 1);
            }
        }
        assert!((20..80).contains(&n_cut), "{n_cut}");
    }

    #[test]
    fn an_older_checkpoint_is_used_with_a_warning_or_not_at_all() {
        let judged = |target, exit, stderr: &str, resumed_from| {
            let fallback = (target != Target::All).then_some(HALF_WAY - 8);
            let ended = Ended { exit, stderr: stderr.to_owned() };
            let (outcome, failure) = judge(target, fallback, &ended, resumed_from);
            (outcome, failure.map(|failure| failure.kind))
        };
        let (newest, older, all) = (Target::Newest, Target::Older, Target::All);
        let (done, refused) = (Exit::Code(0), Exit::Code(1));
        assert_eq!(judged(newest, done, "", Some(HALF_WAY)), ("harmless", None));
        assert_eq!(judged(newest, done, "warning: it", Some(HALF_WAY - 8)), ("detected", None));
        assert_eq!(judged(newest, done, "", Some(HALF_WAY - 8)), ("detected", Some(Kind::Answer)));
        assert_eq!(judged(newest, done, "warning: it", Some(0)), ("resumed", Some(Kind::Lost)));
        assert_eq!(judged(newest, done, "warning: it", None), ("resumed", Some(Kind::Lost)));
        assert_eq!(judged(newest, refused, "error: no", None), ("not resumed", Some(Kind::Unreadable)));
        assert_eq!(judged(older, done, "", Some(HALF_WAY)), ("harmless", None));
        assert_eq!(judged(older, done, "warning: it", Some(HALF_WAY - 8)), ("resumed", Some(Kind::Lost)));
        assert_eq!(judged(all, refused, "error: no", None), ("detected", None));
        assert_eq!(judged(all, refused, "", None), ("detected", Some(Kind::Answer)));
        assert_eq!(judged(all, Exit::Signal(6), "", None), ("not resumed", Some(Kind::Unreadable)));
    }
}
