//! Faults of the disk: full, read-only, or the run folder removed.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context, ensure};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{
    kill_time::{KillTime, POLL},
    process::{CHECKPOINT_INTERVAL, EVAL_INTERVAL, Ended, MAX_STEPS},
    run_folder::{self, METRICS, names},
    test_dir::{TestDir, until_in_time},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    FullAtStart,
    /// Space for the first weights, and little more.
    FullAfterWeights,
    FullInWeights,
    FullInCheckpoint,
    /// Space for all kept checkpoints and half of the next.
    FullInLaterCheckpoint,
    /// Space for half the weights, before an evaluation.
    FullInBestWeights,
    /// No space, before a line of metrics that needs a new page.
    FullInMetrics,
    FullAtAnyTime,
    ReadOnlyAtStart,
    ReadOnlyAtResume,
    FolderRemoved,
}

pub(crate) const FAULTS: [Fault; 11] = [
    Fault::FullAtStart,
    Fault::FullAfterWeights,
    Fault::FullInWeights,
    Fault::FullInCheckpoint,
    Fault::FullInLaterCheckpoint,
    Fault::FullInBestWeights,
    Fault::FullInMetrics,
    Fault::FullAtAnyTime,
    Fault::ReadOnlyAtStart,
    Fault::ReadOnlyAtResume,
    Fault::FolderRemoved,
];

pub(crate) fn attempt(
    test_dir: &TestDir,
    folder: &Path,
    trial_idx: usize,
    rng: &mut ChaCha8Rng,
) -> anyhow::Result<String> {
    let fault = fault(trial_idx);
    let outcome = outcome(fault, test_dir, folder, rng).with_context(|| format!("{fault:?}"))?;
    Ok(format!("{fault:?}: {outcome}"))
}

fn fault(trial_idx: usize) -> Fault {
    FAULTS[trial_idx % FAULTS.len()]
}

/// Whether a trial needs a disk of its own, which only root can mount.
pub(crate) fn needs_tmpfs(trial_idx: usize) -> bool {
    fault(trial_idx) != Fault::FolderRemoved
}

fn outcome(
    fault: Fault,
    test_dir: &TestDir,
    folder: &Path,
    rng: &mut ChaCha8Rng,
) -> anyhow::Result<&'static str> {
    if fault == Fault::FolderRemoved {
        remove_folder(test_dir, &folder.join("run"))?;
        return Ok("refused");
    }
    let disk = Tmpfs::mount(&folder.join("disk"))?;
    let run = disk.path.join("run");
    match fault {
        Fault::ReadOnlyAtStart => {
            disk.remount("ro")?;
            test_dir.kindling.start(&run)?.wait()?.check_error()?;
        }
        Fault::ReadOnlyAtResume => {
            run_folder::copy(&test_dir.half_way, &run)?;
            disk.remount("ro")?;
            test_dir.kindling.resume(&run)?.wait()?.check_error()?;
        }
        fault => {
            check_said_full(&until_full(fault, test_dir, &disk, &run, rng)?)?;
            disk.empty()?;
        }
    }
    disk.remount("rw")?;
    test_dir.recover(&test_dir.kindling, &run)
}

/// Runs until the disk is full.
fn until_full(
    fault: Fault,
    test_dir: &TestDir,
    disk: &Tmpfs,
    run: &Path,
    rng: &mut ChaCha8Rng,
) -> anyhow::Result<Ended> {
    let kindling = &test_dir.kindling;
    let weights = n_pages(&test_dir.reference.join("model.safetensors"))?;
    let checkpoint = n_pages(&run_folder::checkpoint(&test_dir.reference, MAX_STEPS))?;
    let checkpoints = n_pages(&test_dir.reference.join("checkpoints"))?;
    let rest = n_pages(&test_dir.reference)? - checkpoints - weights;
    let n_pages_at_start = match fault {
        Fault::FullAtStart => Some(0),
        Fault::FullAfterWeights => Some(weights + 2),
        Fault::FullInWeights => Some(weights / 2),
        Fault::FullInCheckpoint => Some(weights + rest + checkpoint / 2),
        Fault::FullInLaterCheckpoint => Some(weights + rest + 2 * checkpoint + checkpoint / 2),
        _ => None,
    };
    if let Some(n_pages) = n_pages_at_start {
        disk.fill(n_pages)?;
        return kindling.start(run)?.wait();
    }
    until_in_time(run, || {
        // Leave little more than a run needs, so that filling the rest is quick.
        disk.fill(rest + 2 * weights + 4 * checkpoint)?;
        let mut running = kindling.start(run)?;
        KillTime::Step(rng.random_range(1..MAX_STEPS / 3)).wait(&mut running, run)?;
        while !running.is_over()? && !is_next(fault, run)? {
            thread::sleep(POLL);
        }
        disk.fill(if fault == Fault::FullInBestWeights { weights / 2 } else { 0 })?;
        let ended = running.wait()?;
        if ended.status.success() {
            disk.empty()?;
            return Ok(None);
        }
        Ok(Some(ended))
    })
}

/// Whether the next write, as far as the files show, is the one that must fail.
fn is_next(fault: Fault, run: &Path) -> anyhow::Result<bool> {
    /// Shorter than any line of metrics.
    const LINE_BYTES: u64 = 200;
    let step = run_folder::last_step(run)?;
    let next = |interval: u64| (step / interval + 1) * interval;
    let (evaluation, checkpoint) = (next(EVAL_INTERVAL), next(CHECKPOINT_INTERVAL));
    Ok(match fault {
        Fault::FullInBestWeights => step + 1 < evaluation && evaluation < checkpoint,
        Fault::FullInMetrics => {
            let size_bytes = fs::metadata(run.join(METRICS)).map_or(0, |metadata| metadata.len());
            size_bytes % PAGE_BYTES > PAGE_BYTES - LINE_BYTES && step + 2 < evaluation.min(checkpoint)
        }
        _ => true,
    })
}

/// Number of disk pages of a file or of all files in a folder.
fn n_pages(path: &Path) -> anyhow::Result<u64> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if metadata.is_file() {
        return Ok(metadata.len().div_ceil(PAGE_BYTES));
    }
    names(path)?.iter().map(|name| n_pages(&path.join(name))).sum()
}

fn check_said_full(ended: &Ended) -> anyhow::Result<()> {
    ended.check_error()?;
    let is_reported = ended.stderr.lines().any(|line| line.starts_with("error: ") && line.contains("full"));
    ensure!(is_reported, "no error says that the disk is full: {ended}");
    Ok(())
}

/// Removes the folder of a running run. Nothing can be saved, but an error must be printed.
fn remove_folder(test_dir: &TestDir, run: &Path) -> anyhow::Result<()> {
    let ended = until_in_time(run, || {
        let mut running = test_dir.kindling.start(run)?;
        KillTime::Step(MAX_STEPS / 3).wait(&mut running, run)?;
        // Repeat, because the run may write a file while its folder is removed.
        while run.exists() {
            let _ = fs::remove_dir_all(run);
        }
        let ended = running.wait()?;
        Ok((!ended.status.success() || !run.exists()).then_some(ended))
    })?;
    ended.check_error()
}

const PAGE_BYTES: u64 = 4096;

/// A small disk in memory, unmounted when it is dropped.
pub(crate) struct Tmpfs {
    path: PathBuf,
}

impl Tmpfs {
    /// Mounts a disk several times the size of a run.
    pub(crate) fn mount(path: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(path)?;
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=32m,mode=700", "tmpfs"]).arg(path))?;
        Ok(Self { path: path.to_owned() })
    }

    fn remount(&self, mode: &str) -> anyhow::Result<()> {
        run(Command::new("mount").args(["-o", &format!("remount,{mode}")]).arg(&self.path))
    }

    /// Fills the disk except for `n_pages_left` pages.
    fn fill(&self, n_pages_left: u64) -> anyhow::Result<()> {
        let mut filler = File::options().append(true).create(true).open(self.filler())?;
        let zeros = vec![0; 1 << 16];
        let error = loop {
            if let Err(error) = filler.write(&zeros) {
                break error;
            }
        };
        if error.kind() != ErrorKind::StorageFull {
            return Err(error).context("cannot fill the disk");
        }
        let size_bytes = filler.metadata()?.len();
        Ok(filler.set_len(size_bytes.saturating_sub(n_pages_left * PAGE_BYTES))?)
    }

    fn empty(&self) -> anyhow::Result<()> {
        fs::remove_file(self.filler()).context("cannot empty the disk")
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg(&self.path)); // If this fails, it stays mounted until a reboot.
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::tests::ended;

    #[test]
    fn pages_are_counted_file_by_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        for (name, n_bytes) in [("empty", 0), ("one", 1), ("page", 4096), ("in/more", 4097)] {
            fs::write(folder.path().join(name), vec![1; n_bytes]).unwrap();
        }
        assert_eq!(n_pages(folder.path()).unwrap(), 4);
    }

    #[test]
    fn the_error_must_say_that_the_disk_is_full() {
        check_said_full(&ended(1, "error: cannot write it: the disk is full\n")).unwrap();
        check_said_full(&ended(1, "error: cannot write it: no permission\n")).unwrap_err();
        check_said_full(&ended(1, "the disk is full\n")).unwrap_err();
    }
}
