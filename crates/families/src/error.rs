//! Why a model could not be read.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::quantization::is_quantized;

/// Why a model could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A file of another program that holds something else.
    #[error("{} {reason}", .path.display())]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// What it holds, and the way to a model.
        reason: String,
    },

    /// A `config.json` that does not say what it should.
    #[error("cannot understand {}; put back the file that belongs to the weights beside it", .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },

    /// Settings of another kind of model.
    #[error("{}: {reason}", .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is not supported, and what is.
        reason: String,
    },

    /// Sizes no model has.
    #[error("{}: no model has these sizes; put back the file that belongs to the weights beside it", .path.display())]
    Sizes {
        /// The file.
        path: PathBuf,
        /// Which size.
        source: model::ConfigError,
    },

    /// A file of weights that can't be read.
    #[error(transparent)]
    Read(#[from] formats::weights::Error),

    /// Weights of integers, which other programs multiply by scales.
    #[error("{}: {}", .path.display(), is_quantized(.method))]
    Quantized {
        /// The file.
        path: PathBuf,
        /// What quantized them.
        method: String,
    },

    /// Weights that do not fit the model that `config.json` describes.
    #[error(
        "{} does not fit the sizes given with it; the two are of different models: {}",
        .path.display(), few(.problems, "; ")
    )]
    Weights {
        /// The file.
        path: PathBuf,
        /// One for each tensor that is missing, left over or misshapen, with both shapes.
        problems: Vec<String>,
    },

    /// Tokens that make no tokenizer.
    #[error("the tokenizer of {} can't be used; put back the tokenizer.json it was trained with", .path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// Why.
        source: tokenizer::Error,
    },

    /// A GGUF file that is damaged, or whose model is not supported.
    #[error("cannot read {}", .path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<crate::gguf::Error>,
    },

    /// A GGUF file with sizes no model has.
    #[error("cannot read {}: {reason}", .path.display())]
    GgufSizes {
        /// The file.
        path: PathBuf,
        /// Which size, by its key there.
        reason: String,
    },

    /// A GGUF file whose tokens make no tokenizer.
    #[error("cannot read {}", .path.display())]
    GgufVocabulary {
        /// The file.
        path: PathBuf,
        /// Why.
        source: tokenizer::Error,
    },
}

/// The result of reading a model.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The first of many texts.
pub(crate) fn few(problems: &[String], separator: &str) -> String {
    const SHOWN: usize = 3;
    let mut shown: Vec<_> = problems.iter().take(SHOWN).cloned().collect();
    if problems.len() > SHOWN {
        shown.push(format!("and {} more", problems.len() - SHOWN));
    }
    shown.join(separator)
}

/// Makes an I/O error say what was done to which path.
pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { action, path: path.to_owned(), source }
}
