//! MODEL: which folder is meant.

use std::path::{Path, PathBuf};

use anyhow::Context;
use checkpoint::RunFolder;
use model::Gpt;
use tokenizer::Tokenizer;

use crate::{console::program, device::DeviceArgs};

/// Where runs are, unless a path says otherwise.
pub(crate) const RUNS: &str = "runs";

/// MODEL and `--device`, for every command that uses a trained model.
#[derive(Debug, clap::Args)]
pub(crate) struct ModelArgs {
    /// A run's folder or name, or any folder in Hugging Face layout; without it, the newest run.
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,

    #[command(flatten)]
    device: DeviceArgs,
}

/// A model, ready to use.
pub(crate) struct Opened {
    pub(crate) folder: RunFolder,
    pub(crate) model: Gpt,
    pub(crate) tokenizer: Tokenizer,
}

impl ModelArgs {
    pub(crate) fn open(&self) -> anyhow::Result<Opened> {
        let device = self.device.open()?;
        let folder = self.folder()?;
        let model = folder.load_model(&device)?;
        let tokenizer = folder.load_tokenizer()?;
        Ok(Opened { folder, model, tokenizer })
    }

    /// The folder, without reading its weights.
    pub(crate) fn folder(&self) -> anyhow::Result<RunFolder> {
        match &self.model {
            Some(path) => Ok(RunFolder::open(&path_of(path))?),
            None => newest(),
        }
    }
}

/// A run's folder: the path as it stands if there is something, else the run of that name.
pub(crate) fn path_of(path: &Path) -> PathBuf {
    let named = Path::new(RUNS).join(path);
    if !path.exists() && path.components().count() == 1 && named.exists() { named } else { path.to_owned() }
}

/// The run that changed last.
pub(crate) fn newest() -> anyhow::Result<RunFolder> {
    RunFolder::newest(Path::new(RUNS))?
        .with_context(|| format!("there is no run in {RUNS}/ yet; train one first: {} train", program()))
}

/// Encodes a text, or says what the model's vocabulary lacks.
pub(crate) fn encode(tokenizer: &Tokenizer, model: &Gpt, text: &str) -> anyhow::Result<Vec<u32>> {
    let ids = tokenizer.encode(text)?;
    let vocab_size = model.config().vocab_size;
    if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab_size) {
        anyhow::bail!(
            "the tokenizer makes token {id}, but the model has {vocab_size} tokens: they do not belong together"
        );
    }
    Ok(ids)
}
