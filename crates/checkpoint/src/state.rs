//! Checkpoints: what training goes on from.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, Result, RunFolder, atomic, error::io};

/// How many checkpoints a run keeps; the best weights are kept beside them in any case.
const KEPT: usize = 2;

const MODEL: &str = "model.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const SCHEDULER: &str = "scheduler.bpk";
const STATE: &str = "state.json";
const MANIFEST: &str = "manifest.json";

/// Where training stands, beside weights and optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerState {
    /// Number of optimizer steps done, which is also the position in the data.
    pub step: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Seconds of training, over all sessions of the run.
    pub elapsed_seconds: f64,
    /// The lowest validation loss so far, in nats per token.
    pub best_loss: Option<f64>,
    /// The step it was measured after.
    pub best_step: u64,
    /// Sha256 of the tokens that are trained on and of those validated on.
    pub data: [String; 2],
}

/// Everything one checkpoint holds. The records are in Burn's own format.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The weights.
    pub model: Vec<u8>,
    /// The optimizer's moments.
    pub optimizer: Vec<u8>,
    /// The position in the schedule.
    pub scheduler: Vec<u8>,
    /// Everything else.
    pub state: TrainerState,
}

/// Size and sha256 of each file.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    files: BTreeMap<String, FileFacts>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FileFacts {
    size_bytes: usize,
    sha256: String,
}

impl FileFacts {
    fn of(contents: &[u8]) -> Self {
        let sha256 = Sha256::digest(contents).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { size_bytes: contents.len(), sha256 }
    }
}

impl RunFolder {
    /// Writes a checkpoint as a whole or not at all, then removes all but the newest ones.
    ///
    /// # Errors
    ///
    /// If a file can't be written; the checkpoints before are then still there.
    pub fn save_checkpoint(&self, checkpoint: &Checkpoint) -> Result<PathBuf> {
        let path = self.checkpoints_path().join(format!("step-{:08}", checkpoint.state.step));
        let state = to_json(&checkpoint.state);
        let files: [(&str, &[u8]); 4] = [
            (MODEL, &checkpoint.model),
            (OPTIMIZER, &checkpoint.optimizer),
            (SCHEDULER, &checkpoint.scheduler),
            (STATE, &state),
        ];
        let facts = files.iter().map(|(name, contents)| ((*name).to_owned(), FileFacts::of(contents)));
        let manifest = to_json(&Manifest { files: facts.collect() });
        atomic::write_folder(&path, &[files.as_slice(), &[(MANIFEST, manifest.as_slice())]].concat())?;

        for old in self.checkpoints()?.iter().rev().skip(KEPT) {
            atomic::remove_if_present(old)?;
        }
        Ok(path)
    }

    /// The newest checkpoint that is whole. A damaged one is passed over with a warning.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn load_checkpoint(&self) -> Result<Checkpoint> {
        for path in self.checkpoints()?.iter().rev() {
            match read(path) {
                Ok(checkpoint) => return Ok(checkpoint),
                Err(error) => tracing::warn!("{error}; it is passed over"),
            }
        }
        Err(Error::NoCheckpoint { path: self.path().to_owned() })
    }

    /// Where training stands by the newest checkpoint, if there is one; its other files are not read.
    pub fn trainer_state(&self) -> Option<TrainerState> {
        let paths = self.checkpoints().ok()?;
        let state = fs::read(paths.last()?.join(STATE)).ok()?;
        serde_json::from_slice(&state).ok()
    }

    /// The folders of all checkpoints, oldest first.
    fn checkpoints(&self) -> Result<Vec<PathBuf>> {
        let folder = self.checkpoints_path();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(io("list", &folder))?,
        };
        let mut steps: Vec<(u64, PathBuf)> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                // Whatever else a person keeps there is theirs.
                let step = entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok()?;
                Some((step, entry.path()))
            })
            .collect();
        steps.sort();
        Ok(steps.into_iter().map(|(_, path)| path).collect())
    }
}

/// Reads a checkpoint's folder, and checks each file against the manifest.
fn read(path: &Path) -> Result<Checkpoint> {
    let damaged = |reason: String| Error::Damaged { path: path.to_owned(), reason };
    let file = |name: &str| {
        fs::read(path.join(name)).map_err(|error| damaged(format!("{name} can't be read: {error}")))
    };
    let manifest: Manifest = serde_json::from_slice(&file(MANIFEST)?)
        .map_err(|error| damaged(format!("{MANIFEST} is not understood: {error}")))?;
    let checked = |name: &str| -> Result<Vec<u8>> {
        let contents = file(name)?;
        match manifest.files.get(name) {
            Some(facts) if *facts == FileFacts::of(&contents) => Ok(contents),
            Some(_) => Err(damaged(format!("{name} is not what was written"))),
            None => Err(damaged(format!("{MANIFEST} does not list {name}"))),
        }
    };
    Ok(Checkpoint {
        model: checked(MODEL)?,
        optimizer: checked(OPTIMIZER)?,
        scheduler: checked(SCHEDULER)?,
        state: serde_json::from_slice(&checked(STATE)?)
            .map_err(|error| damaged(format!("{STATE} is not understood: {error}")))?,
    })
}

fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    let mut json = serde_json::to_vec_pretty(value).expect("numbers, strings and maps become JSON");
    json.push(b'\n');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(step: u64) -> Checkpoint {
        Checkpoint {
            model: vec![1, 2, 3],
            optimizer: vec![4; 100],
            scheduler: vec![],
            state: TrainerState {
                step,
                tokens: 10 * step,
                elapsed_seconds: 0.5,
                best_loss: None,
                best_step: 0,
                data: Default::default(),
            },
        }
    }

    fn run() -> (tempfile::TempDir, RunFolder) {
        let parent = tempfile::tempdir().unwrap();
        let run = RunFolder::create(&parent.path().join("run")).unwrap();
        (parent, run)
    }

    #[test]
    fn the_newest_checkpoint_comes_back_whole() {
        let (_parent, run) = run();
        for step in [5, 10, 1000] {
            run.save_checkpoint(&checkpoint(step)).unwrap();
        }
        assert_eq!(run.load_checkpoint().unwrap(), checkpoint(1000));
        assert_eq!(run.checkpoints().unwrap().len(), KEPT);
    }

    #[test]
    fn a_damaged_checkpoint_is_passed_over() {
        let (_parent, run) = run();
        run.save_checkpoint(&checkpoint(5)).unwrap();
        let newest = run.save_checkpoint(&checkpoint(10)).unwrap();
        fs::write(newest.join(OPTIMIZER), vec![5; 100]).unwrap();
        assert_eq!(run.load_checkpoint().unwrap(), checkpoint(5));
    }

    #[test]
    fn a_half_written_checkpoint_is_not_seen() {
        let (_parent, run) = run();
        run.save_checkpoint(&checkpoint(5)).unwrap();
        let partial = run.checkpoints_path().join("step-00000010.partial");
        fs::create_dir(&partial).unwrap();
        fs::write(partial.join(MODEL), [1]).unwrap();
        assert_eq!(run.load_checkpoint().unwrap(), checkpoint(5));
        run.save_checkpoint(&checkpoint(10)).unwrap();
        assert!(!partial.exists());
    }

    #[test]
    fn other_folders_are_left_alone() {
        let (_parent, run) = run();
        run.save_checkpoint(&checkpoint(5)).unwrap();
        let mine = run.checkpoints_path().join("zz-mine");
        fs::create_dir(&mine).unwrap();
        for step in [99_999_999, 100_000_000, 100_000_001] {
            run.save_checkpoint(&checkpoint(step)).unwrap();
        }
        assert!(mine.exists());
        assert_eq!(run.checkpoints().unwrap().len(), KEPT);
        assert_eq!(run.load_checkpoint().unwrap().state.step, 100_000_001);
    }

    #[test]
    fn no_checkpoint_is_an_error_that_names_the_run() {
        let (_parent, run) = run();
        let error = run.load_checkpoint().unwrap_err().to_string();
        assert!(error.contains(&run.path().display().to_string()), "{error}");
    }
}
