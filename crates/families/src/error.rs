//! Errors while reading a model.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::quantization::is_quantized;

/// An error while reading a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// A verb, such as `open`.
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },

    /// A checkpoint of another program.
    #[error("{} {reason}", .path.display())]
    OtherModel {
        path: PathBuf,
        /// A predicate with the kind of the file and how to convert it.
        reason: String,
    },

    /// `config.json` is invalid JSON or lacks a key.
    #[error("{} is not a valid model config; restore the file that belongs to the weights", .path.display())]
    Json { path: PathBuf, source: serde_json::Error },

    /// The config has an unsupported option.
    #[error("{}: {reason}", .path.display())]
    Config { path: PathBuf, reason: String },

    #[error("{} has invalid model sizes; restore the file that belongs to the weights", .path.display())]
    Sizes { path: PathBuf, source: model::ConfigError },

    /// The weights can't be read.
    #[error(transparent)]
    Read(#[from] formats::weights::Error),

    /// The weights are quantized.
    #[error("{}: {}", .path.display(), is_quantized(.method))]
    Quantized { path: PathBuf, method: String },

    /// A type of weights can't represent a value.
    #[error(
        "{}: {name} has the value {value}, which {format} can't represent; use a type with more bits, such as bf16",
        .path.display()
    )]
    Unrepresentable { path: PathBuf, name: String, value: f32, format: quant::Format },

    /// The weights do not fit the model of `config.json`.
    #[error(
        "{} does not match the model config; the two belong to different models: {}",
        .path.display(), first_few(.problems, "; ")
    )]
    Weights {
        path: PathBuf,
        /// One for each missing, unexpected or misshapen tensor.
        problems: Vec<String>,
    },

    /// The matrices of an adapter do not fit the model.
    #[error(
        "{} does not fit the base model; it belongs to another one: {}", .path.display(), first_few(.problems, "; ")
    )]
    Adapter {
        path: PathBuf,
        /// One for each missing, unexpected or misshapen matrix.
        problems: Vec<String>,
    },

    #[error("cannot load the tokenizer from {}", .path.display())]
    Tokenizer { path: PathBuf, source: tokenizer::Error },

    /// The GGUF file is damaged, or its model is not supported.
    #[error("cannot read {}", .path.display())]
    Gguf { path: PathBuf, source: Box<crate::gguf::Error> },

    /// The GGUF file has invalid model sizes.
    #[error("cannot read {}: {reason}", .path.display())]
    GgufSizes {
        path: PathBuf,
        /// The invalid size, by its GGUF key.
        reason: String,
    },

    /// The GGUF file has an invalid vocabulary.
    #[error("cannot read {}", .path.display())]
    GgufVocabulary { path: PathBuf, source: tokenizer::Error },
}

/// The result of reading a model.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Joins the first texts, with the number of the others.
pub(crate) fn first_few(problems: &[String], separator: &str) -> String {
    const SHOWN: usize = 3;
    let mut shown: Vec<_> = problems.iter().take(SHOWN).cloned().collect();
    if problems.len() > SHOWN {
        shown.push(format!("and {} more", problems.len() - SHOWN));
    }
    shown.join(separator)
}

/// Adds the action and the path to an I/O error.
pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { action, path: path.to_owned(), source }
}
