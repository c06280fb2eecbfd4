//! A model that was found, and one that is loaded.

use std::{fmt, path::Path};

use burn::prelude::Device;
use families::{Memory, gguf::GgufFile};
use model::{Gpt, GptConfig};
use tokenizer::{SpecialTokens, Tokenizer};

use crate::{Error, ModelFolder, Models, Result, is_gguf, stored_weights::names_weights};

/// Where a model is. Its weights are not read yet.
#[derive(Debug)]
pub enum Source {
    /// A run, one of its checkpoints, or a folder in Hugging Face layout.
    Folder(ModelFolder),
    /// A GGUF file.
    Gguf(Box<GgufFile>),
}

/// A model with its tokenizer and special tokens, ready to use.
#[derive(Debug)]
pub struct Model {
    /// The model.
    pub gpt: Gpt,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its special tokens: where texts begin and end.
    pub special_tokens: SpecialTokens,
}

impl Models {
    /// Finds the model of a path or name: a run, `RUN@STEP`, `RUN@last`, a checkpoint's folder, a folder in Hugging Face
    /// layout, or a GGUF file. Its weights are not read.
    ///
    /// # Errors
    ///
    /// If there is none; the message says what is there instead, and how to make a model of it.
    pub fn open(&self, path: &Path) -> Result<Source> {
        if is_gguf(path) {
            return Ok(Source::Gguf(Box::new(GgufFile::open(path)?)));
        }
        Ok(Source::Folder(ModelFolder::find(self, path)?))
    }

    /// Whether a path or name leads to something on this machine, be it a model or not.
    pub fn is_here(&self, path: &Path) -> bool {
        self.path_of(path).exists() || names_weights(self, path)
    }

    /// Whether a path or name leads to a folder, a GGUF file or a run's weights.
    pub fn may_be_model(&self, path: &Path) -> bool {
        self.path_of(path).is_dir() || is_gguf(path) || names_weights(self, path)
    }
}

impl Source {
    /// The folder or the file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Folder(model) => model.folder.path(),
            Self::Gguf(file) => file.path(),
        }
    }

    /// The model's name, fit for a file.
    pub fn name(&self) -> String {
        match self {
            Self::Folder(model) => model.name(),
            Self::Gguf(file) => file.path().file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }

    /// The tokenizer and the special tokens. Reading them takes some 40 MB for a while. A caller that counts its memory
    /// asks for them before the weights.
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

    /// The model with its weights on a device, for inference. On the CPU they stay in their file where that has them as
    /// f32.
    ///
    /// # Errors
    ///
    /// If a file is missing or damaged, or model and tokenizer do not belong together.
    pub fn load(&self, device: &Device) -> Result<Model> {
        self.load_with(self.load_tokenizer()?, Memory::Mapped, device)
    }

    /// As [`Source::load`], with the tokenizer and the special tokens that it has. With [`Memory::Own`] all weights are
    /// parameters, as an export needs them.
    ///
    /// # Errors
    ///
    /// As [`Source::load`].
    pub fn load_with(
        &self,
        (tokenizer, special_tokens): (Tokenizer, SpecialTokens),
        memory: Memory,
        device: &Device,
    ) -> Result<Model> {
        let gpt = match self {
            Self::Folder(model) => model.load_model(memory, device)?,
            Self::Gguf(file) => file.load_model(device)?,
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

/// Refuses a tokenizer with tokens that the model lacks, unless it is limited to the model's, which is worth a warning. A
/// model may have more tokens than the tokenizer.
///
/// # Errors
///
/// [`Error::Vocabulary`].
pub fn check_vocabulary(tokenizer: &Tokenizer, config: &GptConfig) -> Result<()> {
    let (n_tokens, vocab_size) = (tokenizer.vocab_size(), config.vocab_size);
    if n_tokens > vocab_size {
        return Err(Error::Vocabulary { n_tokens, vocab_size });
    }
    if tokenizer.n_beyond() > 0 {
        tracing::warn!(
            "the tokenizer has {} tokens and the model {n_tokens}: a text with one of the others is refused",
            n_tokens + tokenizer.n_beyond()
        );
    }
    Ok(())
}
