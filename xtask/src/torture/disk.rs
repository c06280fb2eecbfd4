//! A disk that is full, that can't be written, or from which the run goes away.

use std::fs;
use std::path::Path;
use std::thread;

use anyhow::{Context, bail};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::ground::{Ground, N_ATTEMPTS};
use super::moment::{Moment, reached};
use super::program::{CHECKPOINT_INTERVAL, EVAL_INTERVAL, Ended, Exit, MAX_STEPS, POLL};
use super::report::{Failure, Kind, Trial};
use super::run_folder::{self, METRICS, names};
use super::tmpfs::{PAGE_BYTES, Tmpfs};

/// When a disk gets full, or another misfortune.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// With nothing left at the start.
    Nothing,
    /// With room for the weights at the start, and little more.
    OnlyWeights,
    HalfTheWeights,
    HalfACheckpoint,
    /// With room for as many checkpoints as are kept, and for half of another.
    HalfALaterCheckpoint,
    /// With room for half the weights, before an evaluation.
    BeforeWeights,
    /// With nothing left, before a line of metrics that needs a page of its own.
    BeforeMetrics,
    AnyMoment,
    ReadOnlyStart,
    ReadOnlyResume,
    FolderGone,
}

const FAULTS: [Fault; 11] = [
    Fault::Nothing,
    Fault::OnlyWeights,
    Fault::HalfTheWeights,
    Fault::HalfACheckpoint,
    Fault::HalfALaterCheckpoint,
    Fault::BeforeWeights,
    Fault::BeforeMetrics,
    Fault::AnyMoment,
    Fault::ReadOnlyStart,
    Fault::ReadOnlyResume,
    Fault::FolderGone,
];

pub(crate) const N_TRIALS: usize = FAULTS.len();

/// The trial of number `trial_idx`, in an empty folder.
pub(crate) fn attempt(
    ground: &Ground,
    folder: &Path,
    trial_idx: usize,
    rng: &mut ChaCha8Rng,
) -> anyhow::Result<Trial> {
    let fault = FAULTS[trial_idx % N_TRIALS];
    if fault == Fault::FolderGone {
        let failures = folder_gone(ground, &folder.join("run"))?;
        return Ok(Trial { fault: "run folder removed".into(), outcome: "refused".into(), failures });
    }
    let disk = Tmpfs::mount(&folder.join("disk"))?;
    let run = disk.path.join("run");
    let (name, mut failures) = match fault {
        Fault::ReadOnlyStart => {
            disk.remount("ro")?;
            let ended = ground.program.start(&run)?.wait()?;
            ("read-only disk at the start", refused(&ended))
        }
        Fault::ReadOnlyResume => {
            run_folder::copy(ground.half_way()?, &run)?;
            disk.remount("ro")?;
            let ended = ground.program.resume(&run)?.wait()?;
            ("read-only disk at a resume", refused(&ended))
        }
        fault => {
            let ended = until_full(fault, ground, &disk, &run, rng)?;
            disk.empty()?;
            (what_failed(&ended), not_said_to_be_full(&ended))
        }
    };
    disk.remount("rw")?;
    let (outcome, more) = ground.recover(&ground.program, &run)?;
    failures.extend(more);
    Ok(Trial { fault: name.to_owned(), outcome: outcome.to_owned(), failures })
}

fn refused(ended: &Ended) -> Vec<Failure> {
    Failure::of_error("on a disk that can't be written", ended).into_iter().collect()
}

/// Which write found the disk full, by the file that the error names.
fn what_failed(ended: &Ended) -> &'static str {
    const FILES: [(&str, &str); 5] = [
        ("checkpoints", "full disk in a checkpoint"),
        ("model.safetensors", "full disk in weights"),
        (METRICS, "full disk in a line of metrics"),
        ("samples.txt", "full disk in samples"),
        ("", "full disk in the description"),
    ];
    let error = ended.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
    FILES.iter().find(|(file, _)| error.contains(file)).map_or("full disk", |(_, name)| name)
}

/// Runs on a disk that gets full.
fn until_full(
    fault: Fault,
    ground: &Ground,
    disk: &Tmpfs,
    run: &Path,
    rng: &mut ChaCha8Rng,
) -> anyhow::Result<Ended> {
    let sizes = Sizes::of(&ground.reference)?;
    if let Some(n_pages) = sizes.n_pages_at_start(fault) {
        disk.fill(n_pages)?;
        return ground.program.start(run)?.wait();
    }
    let n_pages_left = if fault == Fault::BeforeWeights { sizes.weights / 2 } else { 0 };
    for _ in 0..N_ATTEMPTS {
        // Little more than a run needs, so that the rest is soon filled.
        disk.fill(sizes.rest + 2 * sizes.weights + 4 * sizes.checkpoint)?;
        let mut running = ground.program.start(run)?;
        reached(Moment::Step(rng.random_range(1..MAX_STEPS / 3)), &mut running, run)?;
        while !running.is_over()? && !is_time(fault, run)? {
            thread::sleep(POLL);
        }
        disk.fill(n_pages_left)?;
        let ended = running.wait()?;
        if ended.exit != Exit::Code(0) {
            return Ok(ended);
        }
        fs::remove_dir_all(run)?;
        disk.empty()?;
    }
    bail!("{fault:?}: the moment was missed {N_ATTEMPTS} times")
}

/// Whether the next write is, as far as one sees from outside, the one that `fault` is about.
fn is_time(fault: Fault, run: &Path) -> anyhow::Result<bool> {
    /// Less than any line has.
    const LINE_BYTES: u64 = 200;
    let step = run_folder::last_step(run)?;
    let next = |interval: u64| (step / interval + 1) * interval;
    let (evaluation, checkpoint) = (next(EVAL_INTERVAL), next(CHECKPOINT_INTERVAL));
    Ok(match fault {
        Fault::BeforeWeights => step + 1 < evaluation && evaluation < checkpoint,
        Fault::BeforeMetrics => {
            let size_bytes = fs::metadata(run.join(METRICS)).map_or(0, |metadata| metadata.len());
            let is_end_of_page = size_bytes % PAGE_BYTES > PAGE_BYTES - LINE_BYTES;
            is_end_of_page && step + 2 < evaluation.min(checkpoint)
        }
        _ => true,
    })
}

/// What a run takes of the disk, in pages.
struct Sizes {
    weights: u64,
    checkpoint: u64,
    /// Everything else, of which some is little at first.
    rest: u64,
}

impl Sizes {
    fn of(reference: &Path) -> anyhow::Result<Self> {
        let weights = n_pages(&reference.join("model.safetensors"))?;
        let checkpoint = n_pages(&run_folder::checkpoint(reference, MAX_STEPS))?;
        let rest = n_pages(reference)? - n_pages(&reference.join("checkpoints"))? - weights;
        Ok(Self { weights, checkpoint, rest })
    }

    /// How much of the disk a run gets. None where the disk is filled while the run goes on.
    fn n_pages_at_start(&self, fault: Fault) -> Option<u64> {
        let &Self { weights, checkpoint, rest } = self;
        match fault {
            Fault::Nothing => Some(0),
            Fault::OnlyWeights => Some(weights + 2),
            Fault::HalfTheWeights => Some(weights / 2),
            Fault::HalfACheckpoint => Some(weights + rest + checkpoint / 2),
            Fault::HalfALaterCheckpoint => Some(weights + rest + 2 * checkpoint + checkpoint / 2),
            _ => None,
        }
    }
}

/// What a file, or everything in a folder, takes of the disk.
fn n_pages(path: &Path) -> anyhow::Result<u64> {
    let metadata = fs::metadata(path).with_context(|| format!("look at {}", path.display()))?;
    if metadata.is_file() {
        return Ok(metadata.len().div_ceil(PAGE_BYTES));
    }
    names(path)?.iter().map(|name| n_pages(&path.join(name))).sum()
}

fn not_said_to_be_full(ended: &Ended) -> Vec<Failure> {
    let mut failures: Vec<Failure> = Failure::of_error("on a full disk", ended).into_iter().collect();
    let says_it = |line: &str| line.starts_with("error: ") && line.contains("full");
    if failures.is_empty() && !ended.stderr.lines().any(says_it) {
        let text = format!("it is not said that the disk is full: {}", ended.last_words());
        failures.push(Failure::new(Kind::Answer, text));
    }
    failures
}

/// Removes a run while it goes on: there is nothing to save, but there is an error to show.
fn folder_gone(ground: &Ground, run: &Path) -> anyhow::Result<Vec<Failure>> {
    for _ in 0..N_ATTEMPTS {
        let mut running = ground.program.start(run)?;
        reached(Moment::Step(MAX_STEPS / 3), &mut running, run)?;
        // Something may be written meanwhile, so that the folder is not empty when it is its turn.
        while run.exists() {
            let _ = fs::remove_dir_all(run);
        }
        let ended = running.wait()?;
        if ended.exit != Exit::Code(0) || !run.exists() {
            return Ok(Failure::of_error("without its folder", &ended).into_iter().collect());
        }
        fs::remove_dir_all(run)?;
    }
    bail!("the run folder came back {N_ATTEMPTS} times")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_file_by_file() {
        let folder = tempfile::tempdir().unwrap();
        for (name, n_bytes) in [("empty", 0), ("one", 1), ("page", 4096), ("more", 4097)] {
            fs::create_dir_all(folder.path().join("in")).unwrap();
            fs::write(folder.path().join("in").join(name), vec![1; n_bytes]).unwrap();
        }
        assert_eq!(n_pages(folder.path()).unwrap(), 4);
    }

    #[test]
    fn a_full_disk_is_counted_by_the_write_that_met_it() {
        let named = |error: &str| what_failed(&Ended { exit: Exit::Code(1), stderr: error.to_owned() });
        assert_eq!(
            named("metrics.jsonl\nerror: write r/checkpoints/step-00000008"),
            "full disk in a checkpoint"
        );
        assert_eq!(named("error: write r/model.safetensors: full"), "full disk in weights");
        assert_eq!(named("error: append to r/metrics.jsonl: full"), "full disk in a line of metrics");
        assert_eq!(named("error: write r/config.json: full"), "full disk in the description");
    }

    #[test]
    fn the_error_has_to_say_full() {
        let wrong = |stderr: &str| {
            not_said_to_be_full(&Ended { exit: Exit::Code(1), stderr: stderr.to_owned() }).len()
        };
        assert_eq!(wrong("error: write it: the disk is full\n"), 0);
        assert_eq!(wrong("error: write it: no permission\n"), 1);
        assert_eq!(wrong("the disk is full\n"), 1);
    }
}
