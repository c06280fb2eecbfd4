//! Checkpoints with one changed byte, or truncated.

use std::{fs, path::Path};

use anyhow::{Context, bail, ensure};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{
    process::Ended,
    run_folder::{self, names},
    test_dir::{HALF_WAY, TestDir},
};

/// Which checkpoints of a run are damaged, each in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damaged {
    Newest,
    /// Must not matter, because older checkpoints are not read.
    Older,
    /// Must be an error.
    All,
}

pub(crate) fn attempt(
    test_dir: &TestDir,
    folder: &Path,
    trial_idx: usize,
    rng: &mut ChaCha8Rng,
) -> anyhow::Result<String> {
    let damaged = match trial_idx % 10 {
        1 | 6 => Damaged::Older,
        2 => Damaged::All,
        _ => Damaged::Newest,
    };
    let run = folder.join("run");
    run_folder::copy(&test_dir.half_way, &run)?;
    let mut steps = run_folder::steps(&run)?;
    let steps = match damaged {
        Damaged::Newest => steps.split_off(steps.len() - 1),
        Damaged::Older => vec![steps[rng.random_range(0..steps.len() - 1)]],
        Damaged::All => steps,
    };
    let damage: Vec<String> = steps
        .into_iter()
        .map(|step| damage(&run_folder::checkpoint(&run, step), rng))
        .collect::<anyhow::Result<_>>()?;
    let outcome = outcome(test_dir, damaged, &run).with_context(|| damage.join(", "))?;
    Ok(format!("{damaged:?}: {outcome}"))
}

fn outcome(test_dir: &TestDir, damaged: Damaged, run: &Path) -> anyhow::Result<&'static str> {
    let mut older = run_folder::steps(run)?.into_iter().rev().filter(|&step| step < HALF_WAY);
    let fallback = older.find(|&step| run_folder::check_whole(run, step).is_ok());
    let before = run_folder::metrics(run)?;
    let ended = test_dir.kindling.resume(run)?.wait()?;
    let resumed_from = run_folder::resumed_from(&before, &run_folder::metrics(run)?);
    let outcome = judge(damaged, fallback, &ended, resumed_from)?;
    if ended.status.success() {
        test_dir.check_equal(run)?;
    }
    Ok(outcome)
}

/// Checks that kindling noticed the damage. `fallback` is the newest whole checkpoint before the newest one.
fn judge(
    damaged: Damaged,
    fallback: Option<u64>,
    ended: &Ended,
    resumed_from: Option<u64>,
) -> anyhow::Result<&'static str> {
    let newest_is_damaged = damaged != Damaged::Older;
    match ended.code() {
        Some(0) if resumed_from == Some(HALF_WAY) => Ok("harmless"),
        Some(0) if newest_is_damaged && fallback.is_some() && resumed_from == fallback => {
            ensure!(ended.stderr.to_lowercase().contains("warn"), "skipped without a warning");
            Ok("detected")
        }
        Some(0) => bail!("resumed from {resumed_from:?}, not from {fallback:?} or {HALF_WAY}"),
        Some(1) if newest_is_damaged && fallback.is_none() => {
            ended.check_error()?;
            Ok("detected")
        }
        _ => bail!("{ended}"),
    }
}

/// Damages one file of a checkpoint and returns a description.
fn damage(checkpoint: &Path, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let names = names(checkpoint)?;
    let name = &names[rng.random_range(0..names.len())];
    let path = checkpoint.join(name);
    let mut contents = fs::read(&path)?;
    let change = change(&mut contents, rng);
    fs::write(&path, contents)?;
    Ok(format!("{name} {change}"))
}

/// Truncates a file with probability 1/4, otherwise changes one byte.
fn change(contents: &mut Vec<u8>, rng: &mut ChaCha8Rng) -> String {
    let byte_idx = rng.random_range(0..contents.len());
    if rng.random_ratio(1, 4) {
        contents.truncate(byte_idx);
        return format!("cut to {byte_idx} bytes");
    }
    contents[byte_idx] ^= rng.random_range(1..=u8::MAX);
    format!("byte {byte_idx} is {:#04x}", contents[byte_idx])
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use crate::process::tests::ended;

    #[test]
    fn a_change_is_one_byte_or_a_shorter_file() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut n_cut = 0;
        for _ in 0..200 {
            let before: Vec<u8> = (0..50).collect();
            let mut after = before.clone();
            change(&mut after, &mut rng);
            let n_unequal = before.iter().zip(&after).filter(|(a, b)| a != b).count();
            assert_eq!(n_unequal, usize::from(after.len() == before.len()));
            n_cut += usize::from(after.len() < before.len());
        }
        assert!((20..80).contains(&n_cut), "{n_cut}");
    }

    #[test]
    fn falling_back_to_an_older_checkpoint_needs_a_warning() {
        let judged = |damaged, code, stderr: &str, resumed_from| {
            let fallback = (damaged != Damaged::All).then_some(HALF_WAY - 8);
            judge(damaged, fallback, &ended(code, stderr), resumed_from).ok()
        };
        use Damaged::{All, Newest, Older};
        assert_eq!(judged(Newest, 0, "", Some(HALF_WAY)), Some("harmless"));
        assert_eq!(judged(Newest, 0, "warning: it", Some(HALF_WAY - 8)), Some("detected"));
        assert_eq!(judged(Newest, 0, "", Some(HALF_WAY - 8)), None);
        assert_eq!(judged(Newest, 0, "warning: it", Some(0)), None);
        assert_eq!(judged(Newest, 0, "warning: it", None), None);
        assert_eq!(judged(Newest, 1, "error: no", None), None);
        assert_eq!(judged(Older, 0, "", Some(HALF_WAY)), Some("harmless"));
        assert_eq!(judged(Older, 0, "warning: it", Some(HALF_WAY - 8)), None);
        assert_eq!(judged(All, 1, "error: no", None), Some("detected"));
        assert_eq!(judged(All, 1, "", None), None);
        assert_eq!(judged(All, 101, "error: no", None), None);
    }
}
