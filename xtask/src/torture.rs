//! `cargo xtask torture`: runs that are killed, starved and damaged, each of which has to become the run that would
//! have been.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use xshell::Shell;

mod compare;
mod disk;
mod flips;
mod ground;
mod kills;
mod moment;
mod program;
mod report;
mod rivals;
mod run_folder;
mod signal;
mod stops;
mod tmpfs;

use ground::Ground;
use report::Trial;

/// Kill real runs, damage their checkpoints and fill their disk, and compare what comes of it bit for bit.
///
/// Moments are drawn from the seed, but when a run is where is up to the machine: a trial that is made again meets
/// about the same moment. A disk is filled where a tmpfs can be mounted, which takes root.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask torture
  cargo xtask torture --kills 6 --flips 10     as `cargo xtask ci` does
  cargo xtask torture --seed 3 --only kill:17  one trial once more")]
pub(crate) struct Args {
    /// How many runs are killed, or stopped by another signal
    #[arg(long, value_name = "N", default_value_t = 100)]
    kills: usize,

    /// How many checkpoints have a byte changed, or are cut short
    #[arg(long, value_name = "N", default_value_t = 200)]
    flips: usize,

    /// Where moments and bytes are drawn from
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,

    /// Only this trial, as a failure names it: kill:K, flip:K, disk:K or rivals:K
    #[arg(long, value_name = "TRIAL")]
    only: Option<TrialId>,

    /// A kindling to try; without it, one is built
    #[arg(long, value_name = "PATH", visible_alias = "kindling")]
    binary: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Kill,
    Flip,
    Disk,
    Rivals,
}

const GROUPS: [Group; 4] = [Group::Kill, Group::Flip, Group::Disk, Group::Rivals];

impl Group {
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Flip => "flip",
            Self::Disk => "disk",
            Self::Rivals => "rivals",
        }
    }

    fn n_trials(self, args: &Args) -> usize {
        match self {
            Self::Kill => args.kills,
            Self::Flip => args.flips,
            Self::Disk => disk::N_TRIALS,
            Self::Rivals => rivals::N_TRIALS,
        }
    }
}

/// A group and a number in it, which with the seed make the trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TrialId {
    group: Group,
    trial_idx: usize,
}

impl TrialId {
    fn name(self) -> String {
        format!("{}:{}", self.group.name(), self.trial_idx)
    }

    /// Draws that do not depend on which other trials are made.
    fn rng(self, seed: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(((self.group as u64) << 32) + self.trial_idx as u64);
        rng
    }
}

impl FromStr for TrialId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(name, trial_idx)| {
            let group = GROUPS.into_iter().find(|group| group.name() == name)?;
            Some(Self { group, trial_idx: trial_idx.parse().ok()? })
        });
        parsed.ok_or_else(|| "not kill:K, flip:K, disk:K or rivals:K".to_owned())
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if !cfg!(unix) {
        bail!("this needs Unix, for its signals; leave it out of `cargo xtask ci` by --skip torture");
    }
    let binary = match &args.binary {
        Some(path) => path.clone(),
        None => crate::bench::side::build_kindling(&Shell::new()?)?,
    };
    let binary = fs::canonicalize(&binary).with_context(|| format!("find {}", binary.display()))?;
    let folder = tempfile::Builder::new().prefix("kindling-torture-").tempdir()?;
    let ground = Ground::new(binary, folder.path())?;
    let [run_ms, start_ms] = [ground.run_time, ground.start_time].map(|time| time.as_millis());
    say(&format!("the reference run took {run_ms} ms, of which {start_ms} ms to its first step"));

    let no_disk = tmpfs::why_not(folder.path());
    let ids = trial_ids(args).into_iter().filter(|id| id.group != Group::Disk || no_disk.is_none());
    let started = Instant::now();
    let trials = attempt_all(&ground, args.seed, &ids.collect::<Vec<_>>())?;
    say(&report::table(&trials.iter().map(|(_, trial)| trial).collect::<Vec<_>>()));
    say(&format!("{} trials in {:.0} s", trials.len(), started.elapsed().as_secs_f64()));
    if let Some(why) = no_disk {
        say(&format!("NOT TRIED: full and read-only disks, because no tmpfs can be mounted: {why}"));
    }
    let failed: Vec<_> = trials.iter().filter(|(_, trial)| trial.failed()).collect();
    for (id, trial) in &failed {
        say(&details(*id, trial, args.seed));
    }
    if !failed.is_empty() {
        let kept = folder.keep();
        bail!("{} of {} trials failed; their runs are in {}", failed.len(), trials.len(), kept.display());
    }
    Ok(())
}

fn trial_ids(args: &Args) -> Vec<TrialId> {
    let all = |group: Group| -> Range<usize> { 0..group.n_trials(args) };
    match args.only {
        Some(id) => vec![id],
        None => GROUPS
            .into_iter()
            .flat_map(|group| all(group).map(move |trial_idx| TrialId { group, trial_idx }))
            .collect(),
    }
}

fn attempt_all(ground: &Ground, seed: u64, ids: &[TrialId]) -> anyhow::Result<Vec<(TrialId, Trial)>> {
    let style = ProgressStyle::with_template("{msg:12} {bar:24} {pos}/{len}  {eta} left")?;
    let bar = ProgressBar::new(ids.len() as u64).with_style(style);
    let mut trials = Vec::new();
    for &id in ids {
        bar.set_message(id.name());
        let trial =
            attempt(ground, seed, id).with_context(|| format!("--seed {seed} --only {}", id.name()))?;
        trials.push((id, trial));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(trials)
}

/// Makes a trial in a folder of its own, which is kept if it fails.
fn attempt(ground: &Ground, seed: u64, id: TrialId) -> anyhow::Result<Trial> {
    let folder = ground.folder.join(id.name().replace(':', "-"));
    fs::create_dir(&folder)?;
    let TrialId { group, trial_idx } = id;
    let attempt: fn(&Ground, &Path, usize, &mut ChaCha8Rng) -> anyhow::Result<Trial> = match group {
        Group::Kill => kills::attempt,
        Group::Flip => flips::attempt,
        Group::Disk => disk::attempt,
        Group::Rivals => rivals::attempt,
    };
    let trial = attempt(ground, &folder, trial_idx, &mut id.rng(seed))?;
    if !trial.failed() {
        fs::remove_dir_all(&folder)?;
    }
    Ok(trial)
}

fn details(id: TrialId, trial: &Trial, seed: u64) -> String {
    let mut text = format!("{} (--seed {seed} --only {}), {}:", trial.fault, id.name(), trial.outcome);
    for failure in &trial.failures {
        text += &format!("\n  {:?}: {}", failure.kind, failure.text);
    }
    text
}

#[expect(clippy::print_stdout, reason = "what was tried and what came of it is what this command is for")]
fn say(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::Rng;

    use super::*;

    #[test]
    fn a_trial_is_found_by_the_name_it_was_given() {
        for group in GROUPS {
            let id = TrialId { group, trial_idx: 17 };
            assert_eq!(id.name().parse(), Ok(id));
        }
        for wrong in ["kill", "kill:", "kills:1", "flip:-1", ""] {
            assert!(wrong.parse::<TrialId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn trials_draw_for_themselves() {
        let draw = |group, trial_idx, seed| TrialId { group, trial_idx }.rng(seed).next_u64();
        assert_eq!(draw(Group::Kill, 3, 1), draw(Group::Kill, 3, 1));
        assert_ne!(draw(Group::Kill, 3, 1), draw(Group::Kill, 4, 1));
        assert_ne!(draw(Group::Kill, 3, 1), draw(Group::Flip, 3, 1));
        assert_ne!(draw(Group::Kill, 3, 1), draw(Group::Kill, 3, 2));
    }
}
