//! Finding and loading models.

use std::{fmt, path::Path};

use burn::prelude::Device;
use families::{WeightStorage, gguf::GgufFile};
use model::{Gpt, GptConfig};
use tokenizer::{SpecialTokens, Tokenizer};

use crate::{Error, ModelFolder, Models, Result, is_gguf, stored_weights::names_weights};

/// A model that was found, before its weights are loaded.
#[derive(Debug)]
pub enum Source {
    /// A run, one of its checkpoints, or a folder in Hugging Face layout.
    Folder(ModelFolder),
    Gguf(Box<GgufFile>),
}

/// A loaded model with its tokenizer and special tokens.
#[derive(Debug)]
pub struct Model {
    pub gpt: Gpt,
    pub tokenizer: Tokenizer,
    pub special_tokens: SpecialTokens,
}

impl Models {
    /// Finds a model by path or name, without loading its weights: a run, `RUN@STEP`, `RUN@last`, a checkpoint's
    /// folder, a folder in Hugging Face layout, or a GGUF file.
    ///
    /// # Errors
    ///
    /// If it is not a model. The message has the command that imports it, if there is one.
    pub fn open(&self, path: &Path) -> Result<Source> {
        if is_gguf(path) {
            return Ok(Source::Gguf(Box::new(GgufFile::open(path)?)));
        }
        Ok(Source::Folder(ModelFolder::find(self, path)?))
    }

    /// Whether a path or name exists on this machine, as a model or as anything else.
    pub fn exists(&self, path: &Path) -> bool {
        self.resolve(path).exists() || names_weights(self, path)
    }

    /// Whether a path or name is a folder, a GGUF file or the weights of a run.
    pub fn may_be_model(&self, path: &Path) -> bool {
        self.resolve(path).is_dir() || is_gguf(path) || names_weights(self, path)
    }
}

impl Source {
    /// The path of the folder or GGUF file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Folder(model) => model.folder.path(),
            Self::Gguf(file) => file.path(),
        }
    }

    /// The model's name, usable as a file name.
    pub fn name(&self) -> String {
        match self {
            Self::Folder(model) => model.name(),
            Self::Gguf(file) => file.path().file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }

    /// The sizes of the model.
    ///
    /// # Errors
    ///
    /// If `config.json` is missing or damaged.
    pub fn config(&self) -> Result<GptConfig> {
        Ok(match self {
            Self::Folder(model) => model.folder.config()?,
            Self::Gguf(file) => file.config().clone(),
        })
    }

    /// Loads the tokenizer and the special tokens. This temporarily uses about 40 MB, so a caller that limits its peak
    /// memory loads them before the weights.
    ///
    /// # Errors
    ///
    /// If a file is missing or damaged.
    pub fn load_tokenizer(&self) -> Result<(Tokenizer, SpecialTokens)> {
        Ok(match self {
            Self::Folder(model) => (model.folder.load_tokenizer()?, model.folder.special_tokens()?),
            Self::Gguf(file) => (file.tokenizer().clone(), file.special_tokens().clone()),
        })
    }

    /// Loads the model onto a device, for inference. On the CPU, weights stay in their memory-mapped file, f32 or not.
    ///
    /// # Errors
    ///
    /// If a file is missing or damaged, or the tokenizer does not fit the model.
    pub fn load(&self, device: &Device) -> Result<Model> {
        self.load_with(self.load_tokenizer()?, WeightStorage::AsStored, device)
    }

    /// As [`Source::load`], with a loaded tokenizer and special tokens. With [`WeightStorage::Owned`] all weights are
    /// parameters, as export requires.
    ///
    /// # Errors
    ///
    /// As [`Source::load`].
    pub fn load_with(
        &self,
        (tokenizer, special_tokens): (Tokenizer, SpecialTokens),
        storage: WeightStorage,
        device: &Device,
    ) -> Result<Model> {
        let gpt = match self {
            Self::Folder(model) => model.load_model(storage, device)?,
            Self::Gguf(file) => file.load_model(storage, device)?,
        };
        check_vocabulary(&tokenizer, gpt.config())?;
        Ok(Model { gpt, tokenizer, special_tokens })
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

/// Checks that the model has all tokens of the tokenizer. Warns if the tokenizer was limited to the model's vocabulary.
///
/// # Errors
///
/// [`Error::Vocabulary`] if the tokenizer has more tokens.
pub fn check_vocabulary(tokenizer: &Tokenizer, config: &GptConfig) -> Result<()> {
    let (n_tokens, vocab_size) = (tokenizer.vocab_size(), config.vocab_size);
    if n_tokens > vocab_size {
        return Err(Error::Vocabulary { n_tokens, vocab_size });
    }
    if tokenizer.n_excess_tokens() > 0 {
        tracing::warn!(
            "the tokenizer has {} tokens and the model only {n_tokens}; texts that need the others are rejected",
            n_tokens + tokenizer.n_excess_tokens()
        );
    }
    Ok(())
}
