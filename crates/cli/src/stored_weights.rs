//! Which of a run's weights MODEL names: those that the run keeps, or by RUN@STEP, RUN@last or a checkpoint's folder others.

use std::{
    fmt,
    path::{self, Path, PathBuf},
};

use anyhow::{Context, bail};
use burn::prelude::Device;
use checkpoint::RunFolder;
use model::Gpt;
use trainer::checkpoint_model;

use crate::{
    history::History,
    run_paths::{is_model, open, path_of},
    usage::bail_usage,
};

/// A folder with a model, and which of its weights are meant.
pub(crate) struct ModelFolder {
    pub(crate) folder: RunFolder,
    pub(crate) weights: StoredWeights,
}

/// Which weights of a run's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoredWeights {
    /// Those of `model.safetensors`.
    Kept,
    /// Those of the checkpoint of a step.
    Checkpoint(u64),
    /// Those kept of a step that was undone.
    Undone(u64),
}

impl StoredWeights {
    /// The step after which a run had them.
    pub(crate) fn step(self, history: &History) -> Option<u64> {
        match self {
            Self::Kept => history.kept_step(),
            Self::Checkpoint(step) | Self::Undone(step) => Some(step),
        }
    }
}

impl ModelFolder {
    /// The folder of a run with the weights it keeps.
    pub(crate) fn kept(folder: RunFolder) -> Self {
        Self { folder, weights: StoredWeights::Kept }
    }

    pub(crate) fn load_model(&self, device: &Device) -> anyhow::Result<Gpt> {
        Ok(match self.weights {
            StoredWeights::Kept => {
                match self.folder.load_model(device) {
                    Err(error) if self.has_checkpoints() => {
                        let path = self.folder.path().display();
                        return Err(error).with_context(|| {
                        format!("cannot open the weights of {path}; those of its last checkpoint are {path}@last")
                    });
                    }
                    model => model?,
                }
            }
            StoredWeights::Checkpoint(step) => checkpoint_model(&self.folder, step, device)?,
            StoredWeights::Undone(step) => self.folder.load_kept_model(step, device)?,
        })
    }

    fn has_checkpoints(&self) -> bool {
        self.folder.checkpoint_steps().is_ok_and(|steps| !steps.is_empty())
    }

    /// What the model is called, as a file's name.
    pub(crate) fn name(&self) -> String {
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

/// The folder that MODEL names, with the weights that it names: RUN, RUN@STEP, RUN@last, or a checkpoint's folder.
pub(crate) fn find(path: &Path) -> anyhow::Result<ModelFolder> {
    if let Some((run, step)) = checkpoint_of(path) {
        return Ok(ModelFolder { folder: open(&run)?, weights: StoredWeights::Checkpoint(step) });
    }
    if let Some((run, which)) = split_at_sign(path) {
        let folder = open(run)?;
        let weights = which_weights(&folder, which)?;
        return Ok(ModelFolder { folder, weights });
    }
    open(path).map(ModelFolder::kept)
}

/// Whether a path names weights of a run that is there, by an @.
pub(crate) fn names_weights(path: &Path) -> bool {
    split_at_sign(path).is_some_and(|(run, _)| path_of(run).is_dir())
}

/// RUN and the weights in RUN@WEIGHTS. A file or folder that has an @ in its name is meant as it is.
fn split_at_sign(path: &Path) -> Option<(&Path, &str)> {
    let (run, which) = path.to_str()?.rsplit_once('@')?;
    (!run.is_empty() && !path_of(path).exists()).then_some((Path::new(run), which))
}

/// The weights that stand behind an @.
fn which_weights(folder: &RunFolder, which: &str) -> anyhow::Result<StoredWeights> {
    let path = folder.path().display();
    let (steps, undone) = (folder.checkpoint_steps()?, folder.kept_steps());
    let kept = History::open(folder.clone())?.kept_step();
    let Some(step) = (match which {
        "best" => return Ok(StoredWeights::Kept),
        "last" => Some(*steps.last().with_context(|| format!("{path} has no checkpoints; leave @last out"))?),
        number => number.parse().ok(),
    }) else {
        bail_usage!("{path}@{which}: after @, give a step, `last` or `best`");
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
    let mut all: Vec<u64> = steps.into_iter().chain(kept).chain(undone).collect();
    all.sort_unstable();
    all.dedup();
    let all: Vec<String> = all.iter().map(|step| format!("{path}@{step}")).collect();
    bail!(
        "{path} has no weights of step {step}; it has {}. A run keeps more with --set schedule.keep_every=N",
        if all.is_empty() { "no checkpoints".to_owned() } else { all.join(", ") }
    );
}

/// The run and the step of a checkpoint's folder.
fn checkpoint_of(path: &Path) -> Option<(PathBuf, u64)> {
    let step = path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok().filter(|_| path.is_dir())?;
    let run = match path.parent()?.parent() {
        Some(run) if run != Path::new("") => run.to_owned(),
        Some(_) => PathBuf::from("."), // checkpoints/step-N, in the run's folder
        None => path::absolute(path).ok()?.parent()?.parent()?.to_owned(), // step-N, in that of its checkpoints
    };
    is_model(&run).then_some((run, step))
}
