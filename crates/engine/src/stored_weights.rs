//! Which weights of a run a name means: those the run keeps, or by RUN@STEP, RUN@last or a checkpoint's folder others.

use std::{
    fmt,
    path::{self, Path, PathBuf},
};

use burn::prelude::Device;
use checkpoint::RunFolder;
use families::Memory;
use model::Gpt;

use crate::{Error, Models, Result, lookup::is_model};

/// A folder with a model, and which of its weights are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFolder {
    /// The folder of a run, or one in Hugging Face layout.
    pub folder: RunFolder,
    /// Which weights.
    pub weights: StoredWeights,
}

/// Which weights of a run's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredWeights {
    /// `model.safetensors`.
    Kept,
    /// The checkpoint of a step.
    Checkpoint(u64),
    /// Weights kept of a step that was undone.
    Undone(u64),
}

impl ModelFolder {
    /// The weights that the folder of a run keeps.
    pub fn kept(folder: RunFolder) -> Self {
        Self { folder, weights: StoredWeights::Kept }
    }

    /// The folder and the weights of `RUN`, `RUN@STEP`, `RUN@last`, a checkpoint's folder, or a folder in Hugging Face layout.
    ///
    /// # Errors
    ///
    /// If there is none; the message says what is there instead, and how to make a model of it.
    pub fn find(models: &Models, path: &Path) -> Result<Self> {
        if let Some((run, step)) = checkpoint_of(path) {
            return Ok(Self { folder: models.open_folder(&run)?, weights: StoredWeights::Checkpoint(step) });
        }
        if let Some((run, which)) = split_at_sign(models, path) {
            let folder = models.open_folder(run)?;
            let weights = which_weights(&folder, which)?;
            return Ok(Self { folder, weights });
        }
        models.open_folder(path).map(Self::kept)
    }

    /// The model with these weights. Those of a checkpoint are always in memory of their own.
    ///
    /// # Errors
    ///
    /// If a file is missing, damaged or does not fit the others.
    pub fn load_model(&self, memory: Memory, device: &Device) -> Result<Gpt> {
        match self.weights {
            StoredWeights::Kept => self.folder.open_model(memory, device).map_err(|source| {
                if self.folder.checkpoint_steps().is_ok_and(|steps| !steps.is_empty()) {
                    let path = self.folder.path().to_owned();
                    return Error::HasCheckpoint { path, source: Box::new(source) };
                }
                source.into()
            }),
            StoredWeights::Checkpoint(step) => Ok(self.folder.load_checkpoint_model(step, device)?),
            StoredWeights::Undone(step) => Ok(self.folder.open_kept_model(step, memory, device)?),
        }
    }

    /// The step after which the run had these weights, where it says so.
    pub fn step(&self) -> Option<u64> {
        match self.weights {
            StoredWeights::Kept => self.folder.kept_step(),
            StoredWeights::Checkpoint(step) | StoredWeights::Undone(step) => Some(step),
        }
    }

    /// The model's name, fit for a file.
    pub fn name(&self) -> String {
        match self.weights {
            StoredWeights::Kept => self.folder.name(),
            StoredWeights::Checkpoint(step) | StoredWeights::Undone(step) => {
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
            StoredWeights::Checkpoint(step) | StoredWeights::Undone(step) => write!(f, "{path}@{step}"),
        }
    }
}

/// Whether a path names weights of an existing run, by an @.
pub(crate) fn names_weights(models: &Models, path: &Path) -> bool {
    split_at_sign(models, path).is_some_and(|(run, _)| models.path_of(run).is_dir())
}

/// RUN and the weights in RUN@WEIGHTS. A file or folder that has an @ in its name is meant as it is.
fn split_at_sign<'a>(models: &Models, path: &'a Path) -> Option<(&'a Path, &'a str)> {
    let (run, which) = path.to_str()?.rsplit_once('@')?;
    (!run.is_empty() && !models.path_of(path).exists()).then_some((Path::new(run), which))
}

/// The weights that are named behind an @.
fn which_weights(folder: &RunFolder, which: &str) -> Result<StoredWeights> {
    let path = || folder.path().to_owned();
    let (steps, undone, kept) = (folder.checkpoint_steps()?, folder.kept_steps(), folder.kept_step());
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
    if undone.contains(&step) {
        return Ok(StoredWeights::Undone(step));
    }
    let mut known: Vec<u64> = steps.into_iter().chain(kept).chain(undone).collect();
    known.sort_unstable();
    known.dedup();
    Err(Error::NoStep { path: path(), step, known })
}

/// The run and the step of a checkpoint's folder.
fn checkpoint_of(path: &Path) -> Option<(PathBuf, u64)> {
    let step = path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok().filter(|_| path.is_dir())?;
    let run = match path.parent()?.parent() {
        Some(run) if run != Path::new("") => run.to_owned(),
        Some(_) => PathBuf::from("."), // checkpoints/step-N, in the run's folder
        None => path::absolute(path).ok()?.parent()?.parent()?.to_owned(), // step-N, in the folder of checkpoints
    };
    is_model(&run).then_some((run, step))
}
