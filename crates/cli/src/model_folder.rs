//! MODEL: the folder or file it names.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use anyhow::bail;
use burn::prelude::Device;
use checkpoint::{GgufFile, Marks};
use model::{Gpt, GptConfig};
use tokenizer::Tokenizer;

use crate::{
    console::warn,
    device::DeviceArgs,
    run_paths::{is_gguf, newest},
    stored_weights::{ModelFolder, find},
};

/// MODEL, for every command that looks at one.
#[derive(Debug, clap::Args)]
pub(crate) struct FolderArgs {
    /// A run's folder or name, a Hugging Face folder or a GGUF file; without it, the newest run. RUN@last and RUN@STEP
    /// are the weights of a run's checkpoint, as is the checkpoint's folder.
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

/// Where a model is.
pub(crate) enum Source {
    Folder(ModelFolder),
    Gguf(Box<GgufFile>),
}

/// A model, ready to use.
pub(crate) struct Opened {
    pub(crate) source: Source,
    pub(crate) model: Gpt,
    pub(crate) tokenizer: Tokenizer,
}

impl ModelArgs {
    /// Whether the model is to run on the processor.
    pub(crate) fn is_on_cpu(&self) -> bool {
        self.device.is_cpu()
    }

    pub(crate) fn open(&self) -> anyhow::Result<Opened> {
        let device = self.device.open()?;
        let source = self.folder.open()?;
        let (model, tokenizer) = source.load(&device)?;
        Ok(Opened { source, model, tokenizer })
    }
}

impl Source {
    /// The folder or the file.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Folder(model) => model.folder.path(),
            Self::Gguf(file) => file.path(),
        }
    }

    /// What the model is called.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Folder(model) => model.name(),
            Self::Gguf(file) => file.path().file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }

    /// The tokens at which a text begins and ends.
    pub(crate) fn marks(&self) -> anyhow::Result<Marks> {
        Ok(match self {
            Self::Folder(model) => model.folder.marks()?,
            Self::Gguf(file) => file.marks().clone(),
        })
    }

    /// The model with its weights, and its tokenizer.
    pub(crate) fn load(&self, device: &Device) -> anyhow::Result<(Gpt, Tokenizer)> {
        let (model, tokenizer) = match self {
            Self::Folder(model) => (model.load_model(device)?, model.folder.load_tokenizer()?),
            Self::Gguf(file) => (file.load_model(device)?, file.tokenizer().clone()),
        };
        check_vocabulary(&tokenizer, model.config())?;
        Ok((model, tokenizer))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(model) => model.fmt(f),
            Self::Gguf(file) => write!(f, "{}", file.path().display()),
        }
    }
}

impl FolderArgs {
    /// The folder or file, without reading its weights.
    pub(crate) fn open(&self) -> anyhow::Result<Source> {
        match &self.model {
            Some(path) if is_gguf(path) => Ok(Source::Gguf(Box::new(GgufFile::open(path)?))),
            Some(path) => Ok(Source::Folder(find(path)?)),
            None => Ok(Source::Folder(ModelFolder::kept(newest()?))),
        }
    }
}

/// Refuses a tokenizer with tokens that the model lacks, unless it is limited to those that the model has, and then warns of
/// it. A model may have more than the tokenizer.
pub(crate) fn check_vocabulary(tokenizer: &Tokenizer, config: &GptConfig) -> anyhow::Result<()> {
    let (n_tokens, vocab_size) = (tokenizer.vocab_size(), config.vocab_size);
    if n_tokens > vocab_size {
        bail!("the tokenizer has {n_tokens} tokens and the model {vocab_size}: they do not belong together");
    }
    if tokenizer.n_beyond() > 0 {
        warn(format_args!(
            "the tokenizer has {} tokens and the model {n_tokens}: a text with one of the others is refused",
            n_tokens + tokenizer.n_beyond()
        ));
    }
    Ok(())
}
