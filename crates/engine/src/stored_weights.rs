//! Selects a run's weights: `model.safetensors`, RUN@STEP, RUN@last or a checkpoint's folder.

use std::{
    fmt,
    path::{self, Path, PathBuf},
};

use burn::prelude::Device;
use checkpoint::RunFolder;
use families::WeightStorage;
use model::Gpt;

use crate::{Error, Models, Result, lookup::is_model};

/// A model folder and one set of its weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFolder {
    /// The folder of a run, or one in Hugging Face layout.
    pub folder: RunFolder,
    pub weights: StoredWeights,
}

/// One set of weights in a run folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredWeights {
    /// `model.safetensors`.
    Kept,
    /// The checkpoint of a step.
    Checkpoint(u64),
    /// A backup of earlier best weights, by their step.
    Backup(u64),
}

impl ModelFolder {
    /// A folder with the weights of `model.safetensors`.
    pub fn kept(folder: RunFolder) -> Self {
        Self { folder, weights: StoredWeights::Kept }
    }

    /// Finds `RUN`, `RUN@STEP`, `RUN@last`, a checkpoint's folder, or a folder in Hugging Face layout.
    ///
    /// # Errors
    ///
    /// If it is not a model folder. The message has the command that imports it, if there is one.
    pub fn find(models: &Models, path: &Path) -> Result<Self> {
        if let Some((run, step)) = checkpoint_of(path) {
            return Ok(Self { folder: models.open_folder(&run)?, weights: StoredWeights::Checkpoint(step) });
        }
        if let Some((run, which)) = split_at_sign(models, path) {
            let folder = models.open_folder(run)?;
            let weights = parse_weights(&folder, which)?;
            return Ok(Self { folder, weights });
        }
        models.open_folder(path).map(Self::kept)
    }

    /// Loads the model. Weights of a checkpoint are never memory-mapped.
    ///
    /// # Errors
    ///
    /// If a file is missing or damaged, or files do not fit together.
    pub fn load_model(&self, storage: WeightStorage, device: &Device) -> Result<Gpt> {
        match self.weights {
            StoredWeights::Kept => self.folder.load_model_with(storage, device).map_err(|source| {
                if !source.is_of_base() && self.folder.checkpoint_steps().is_ok_and(|steps| !steps.is_empty())
                {
                    let path = self.folder.path().to_owned();
                    return Error::HasCheckpoint { path, source: Box::new(source) };
                }
                source.into()
            }),
            StoredWeights::Checkpoint(step) => Ok(self.folder.load_checkpoint_model(step, device)?),
            StoredWeights::Backup(step) => Ok(self.folder.load_backup_model(step, storage, device)?),
        }
    }

    /// The training step of these weights, if it is recorded.
    pub fn step(&self) -> Option<u64> {
        match self.weights {
            StoredWeights::Kept => self.folder.kept_step(),
            StoredWeights::Checkpoint(step) | StoredWeights::Backup(step) => Some(step),
        }
    }

    /// The model's name, usable as a file name.
    pub fn name(&self) -> String {
        match self.weights {
            StoredWeights::Kept => self.folder.name(),
            StoredWeights::Checkpoint(step) | StoredWeights::Backup(step) => {
                format!("{}-step-{step}", self.folder.name())
            }
        }
    }
}

impl fmt::Display for ModelFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.folder.path().display();
        match self.weights {
            StoredWeights::Kept => write!(f, "{path}"),
            StoredWeights::Checkpoint(step) | StoredWeights::Backup(step) => write!(f, "{path}@{step}"),
        }
    }
}

/// Whether a path is RUN@WEIGHTS of an existing run.
pub(crate) fn names_weights(models: &Models, path: &Path) -> bool {
    split_at_sign(models, path).is_some_and(|(run, _)| models.resolve(run).is_dir())
}

/// Splits RUN@WEIGHTS. `None` for an existing file or folder with an @ in its name.
fn split_at_sign<'a>(models: &Models, path: &'a Path) -> Option<(&'a Path, &'a str)> {
    let (run, which) = path.to_str()?.rsplit_once('@')?;
    (!run.is_empty() && !models.resolve(path).exists()).then_some((Path::new(run), which))
}

/// Parses the text after the @.
fn parse_weights(folder: &RunFolder, which: &str) -> Result<StoredWeights> {
    let path = || folder.path().to_owned();
    let (steps, backups, kept) = (folder.checkpoint_steps()?, folder.backup_steps(), folder.kept_step());
    let step = match which {
        "best" => return Ok(StoredWeights::Kept),
        "last" => *steps.last().ok_or_else(|| Error::NoCheckpoints { path: path() })?,
        number => {
            number.parse().map_err(|_| Error::WhichWeights { path: path(), which: which.to_owned() })?
        }
    };
    if steps.contains(&step) {
        return Ok(StoredWeights::Checkpoint(step));
    }
    if kept == Some(step) {
        return Ok(StoredWeights::Kept);
    }
    if backups.contains(&step) {
        return Ok(StoredWeights::Backup(step));
    }
    let mut known: Vec<u64> = steps.into_iter().chain(kept).chain(backups).collect();
    known.sort_unstable();
    known.dedup();
    Err(Error::NoStep { path: path(), step, known })
}

/// The run and the step of a checkpoint's folder.
fn checkpoint_of(path: &Path) -> Option<(PathBuf, u64)> {
    let step = path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok().filter(|_| path.is_dir())?;
    let run = match path.parent()?.parent() {
        Some(run) if run != Path::new("") => run.to_owned(),
        Some(_) => PathBuf::from("."), // `path` is checkpoints/step-N.
        None => path::absolute(path).ok()?.parent()?.parent()?.to_owned(), // `path` is step-N.
    };
    is_model(&run).then_some((run, step))
}
