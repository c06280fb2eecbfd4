//! Why a run folder could not be read or written.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why a run folder could not be read or written.
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

    /// The folder is no model.
    #[error("{} is not a model: it has no {missing}; name a run folder or one in Hugging Face layout", .path.display())]
    NotAModel {
        /// The folder.
        path: PathBuf,
        /// The file it lacks.
        missing: &'static str,
    },

    /// A new run would write over something.
    #[error("{} already exists; name another run, or go on with it by --resume", .path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },

    /// A file of JSON that does not say what it should.
    #[error("cannot understand {}", .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },

    /// A `config.json` of another kind of model.
    #[error("{}: {reason}", .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is not supported, and what is.
        reason: String,
    },

    /// Sizes no model has.
    #[error("{}: no model has these sizes", .path.display())]
    Sizes {
        /// The file.
        path: PathBuf,
        /// Which size.
        source: model::ConfigError,
    },

    /// A weights file that is damaged.
    #[error("cannot understand {}", .path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: safetensors::SafeTensorError,
    },

    /// Weights that do not fit the model that `config.json` describes.
    #[error("{} does not fit its config.json: {}", .path.display(), .problems.join("; "))]
    Weights {
        /// The file.
        path: PathBuf,
        /// One sentence for each tensor that is missing, left over or misshapen, with both shapes.
        problems: Vec<String>,
    },

    /// The tokenizer is missing or damaged.
    #[error("cannot load the tokenizer of {}", .path.display())]
    Tokenizer {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: tokenizer::Error,
    },

    /// A checkpoint whose files are not those it was written with.
    #[error("the checkpoint {} is damaged: {reason}", .path.display())]
    Damaged {
        /// The checkpoint's folder.
        path: PathBuf,
        /// Which file, and how.
        reason: String,
    },

    /// There is nothing to go on from.
    #[error("{} holds no usable checkpoint; start a new run", .path.display())]
    NoCheckpoint {
        /// The run folder.
        path: PathBuf,
    },
}

/// The result of reading or writing a run folder.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Makes an I/O error say what was done to which path.
pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { action, path: path.to_owned(), source }
}
