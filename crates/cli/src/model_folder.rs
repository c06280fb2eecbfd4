//! MODEL: which folder is meant.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use checkpoint::RunFolder;
use model::{Gpt, GptConfig};
use tokenizer::Tokenizer;

use crate::{
    console::{did_you_mean, program},
    device::DeviceArgs,
};

/// Where runs are, unless a path says otherwise.
pub(crate) const RUNS: &str = "runs";

/// MODEL, for every command that looks at one.
#[derive(Debug, clap::Args)]
pub(crate) struct FolderArgs {
    /// A run's folder or name, or any folder with a GPT-2, Llama or Qwen3 of Hugging Face's; without it, the newest run.
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,
}

/// MODEL and `--device`, for every command that runs one.
#[derive(Debug, clap::Args)]
pub(crate) struct ModelArgs {
    #[command(flatten)]
    folder: FolderArgs,

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
        let folder = self.folder.open()?;
        let model = folder.load_model(&device)?;
        let tokenizer = folder.load_tokenizer()?;
        check_vocabulary(&tokenizer, model.config())?;
        Ok(Opened { folder, model, tokenizer })
    }
}

impl FolderArgs {
    /// The folder, without reading its weights.
    pub(crate) fn open(&self) -> anyhow::Result<RunFolder> {
        match &self.model {
            Some(path) => open(path),
            None => newest(),
        }
    }
}

/// The folder of a run or a model that is there.
pub(crate) fn open(path: &Path) -> anyhow::Result<RunFolder> {
    let folder = path_of(path);
    if !folder.exists() {
        bail!(
            "there is no run and no folder {}; name a run of {RUNS}/ or a folder with a model{}",
            path.display(),
            suggestion(path)
        );
    }
    Ok(RunFolder::open(&folder)?)
}

/// The run that was probably meant.
fn suggestion(path: &Path) -> String {
    let runs = RunFolder::all(Path::new(RUNS)).unwrap_or_default();
    let names: Vec<String> = runs.iter().map(RunFolder::name).collect();
    let meant = path.file_name().unwrap_or_default().to_string_lossy();
    did_you_mean(&meant, names.iter().map(String::as_str))
}

/// A run's folder: the path as it stands if there is something, else the run of that name.
pub(crate) fn path_of(path: &Path) -> PathBuf {
    let named = Path::new(RUNS).join(path);
    if !path.exists() && path.components().count() == 1 && named.exists() { named } else { path.to_owned() }
}

/// A run by its name is in `runs/`; a path stands as it is.
pub(crate) fn run_path(run: &Path) -> PathBuf {
    if run.components().count() == 1 && run.is_relative() {
        Path::new(RUNS).join(run)
    } else {
        run.to_owned()
    }
}

/// The run that changed last.
pub(crate) fn newest() -> anyhow::Result<RunFolder> {
    RunFolder::newest(Path::new(RUNS))?
        .with_context(|| format!("there is no run in {RUNS}/ yet; train one first: {} train", program()))
}

/// Refuses a tokenizer with tokens that the model lacks; a model may have more than the tokenizer.
pub(crate) fn check_vocabulary(tokenizer: &Tokenizer, config: &GptConfig) -> anyhow::Result<()> {
    let (n_tokens, vocab_size) = (tokenizer.vocab_size(), config.vocab_size);
    if n_tokens > vocab_size {
        bail!("the tokenizer has {n_tokens} tokens and the model {vocab_size}: they do not belong together");
    }
    Ok(())
}
