//! Fault injection into real runs: killed, stopped by a signal, out of disk space, with damaged checkpoints, started
//! twice. Each run must end bit for bit like an undisturbed run.
//!
//! `cargo test` runs a few trials of each group. `KINDLING_TORTURE=long` runs all of them, and
//! `KINDLING_TORTURE=kill:17` repeats one by the name that its failure prints. `KINDLING_TORTURE_SEED` selects other
//! kill times and bytes. The folders of failed trials are kept. Progress at a given time depends on the machine, so a
//! repeated trial hits about the same step.

#![cfg(unix)] // It needs signals.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    env, fs,
    io::{self, Write},
    path::Path,
    time::Instant,
};

use anyhow::Context;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

mod compare;
mod disk;
mod flips;
mod kill_time;
mod kills;
mod locks;
mod process;
mod run_folder;
#[path = "../cli/support.rs"]
#[allow(dead_code, reason = "only the tests of commands use the rest")]
mod support;
mod test_dir;

use test_dir::TestDir;

/// Trials of one kind of fault.
struct Group {
    name: &'static str,
    /// Number of trials in `cargo test`.
    n_short: usize,
    /// Number of trials in a long run.
    n_long: usize,
    /// Runs one trial in an empty folder and returns the fault and the outcome.
    attempt: fn(&TestDir, &Path, usize, &mut ChaCha8Rng) -> anyhow::Result<String>,
}

const GROUPS: [Group; 4] = [
    Group { name: "kill", n_short: 14, n_long: 100, attempt: kills::attempt },
    Group { name: "flip", n_short: 4, n_long: 200, attempt: flips::attempt },
    Group { name: "disk", n_short: disk::FAULTS.len(), n_long: disk::FAULTS.len(), attempt: disk::attempt },
    Group {
        name: "lock",
        n_short: locks::FAULTS.len(),
        n_long: locks::FAULTS.len(),
        attempt: locks::attempt,
    },
];

#[test]
fn a_disturbed_run_ends_like_an_undisturbed_one() {
    let seed = env::var("KINDLING_TORTURE_SEED").map_or(0, |seed| seed.parse().unwrap());
    let mut folder = tempfile::Builder::new().prefix("kindling-torture-").tempdir().unwrap();
    let test_dir = TestDir::new(folder.path()).unwrap();
    let no_disk = disk::Tmpfs::mount(&folder.path().join("disk")).err();
    if let Some(error) = &no_disk {
        // Written directly, because libtest captures the output of passing tests.
        let mut out = io::stderr();
        writeln!(out, "SKIPPED: full and read-only disks, because no tmpfs can be mounted: {error:#}")
            .unwrap();
    }
    let mut failures = Vec::new();
    for (group_idx, trial_idx) in trials(env::var("KINDLING_TORTURE").ok().as_deref()) {
        let Group { name, attempt, .. } = GROUPS[group_idx];
        if name == "disk" && no_disk.is_some() && disk::needs_tmpfs(trial_idx) {
            continue;
        }
        // The random values of a trial do not depend on the trials before it.
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(((group_idx as u64) << 32) + trial_idx as u64);
        let trial = format!("{name}:{trial_idx}");
        let trial_folder = folder.path().join(trial.replace(':', "-"));
        fs::create_dir(&trial_folder).unwrap();
        let started = Instant::now();
        match attempt(&test_dir, &trial_folder, trial_idx, &mut rng) {
            Ok(outcome) => {
                println!("{trial} {outcome}, {:.1} s", started.elapsed().as_secs_f64());
                fs::remove_dir_all(&trial_folder).with_context(|| trial).unwrap();
            }
            Err(error) => failures.push(format!("{trial} {error:#}")),
        }
    }
    if !failures.is_empty() {
        folder.disable_cleanup(true);
        let (n_failed, runs) = (failures.len(), folder.path().display());
        panic!("{n_failed} trials of seed {seed} failed; their runs are in {runs}:\n{}", failures.join("\n"));
    }
}

/// Indices of groups and their trials: a few of each group, all, or the named one.
fn trials(wanted: Option<&str>) -> Vec<(usize, usize)> {
    let of_all = |n_trials: fn(&Group) -> usize| {
        let groups = GROUPS.iter().enumerate();
        groups.flat_map(|(idx, group)| (0..n_trials(group)).map(move |trial| (idx, trial))).collect()
    };
    match wanted {
        None => of_all(|group| group.n_short),
        Some("long") => of_all(|group| group.n_long),
        Some(trial) => {
            let named = trial.split_once(':').and_then(|(name, trial_idx)| {
                let group_idx = GROUPS.iter().position(|group| group.name == name)?;
                Some((group_idx, trial_idx.parse().ok()?))
            });
            vec![
                named.unwrap_or_else(|| {
                    panic!("KINDLING_TORTURE={trial}: use long or a trial such as kill:17")
                }),
            ]
        }
    }
}

#[test]
fn a_trial_is_found_by_its_name() {
    assert_eq!(trials(Some("flip:17")), [(1, 17)]);
    assert!(trials(None).len() < trials(Some("long")).len());
    assert!(GROUPS.iter().all(|group| 0 < group.n_short && group.n_short <= group.n_long));
}
