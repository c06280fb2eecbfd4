//! Errors while reading the model of a GGUF file.

use formats::gguf;

/// An error while reading the model of a GGUF file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is damaged, or a key is missing or invalid.
    #[error(transparent)]
    File(#[from] gguf::Error),

    /// Not a model, but for example an adapter.
    #[error("it is {what} (`general.type` is {found:?}), not a model{advice}")]
    OtherType {
        what: &'static str,
        /// `general.type`.
        found: String,
        /// How to get a model from it.
        advice: &'static str,
    },

    /// A file where a LoRA adapter is required.
    #[error("it is not a LoRA adapter: `{key}` is {found:?}, not {expected:?}")]
    NotLora { key: &'static str, found: String, expected: &'static str },

    /// An adapter with an option that changes its meaning.
    #[error("the adapter is of a kind that is not supported (`{key}`)")]
    AdapterKind { key: &'static str },

    #[error("it is an adapter of a {found} model, and the base model is {model}")]
    OtherArchitecture {
        found: String,
        /// The architecture of the base model.
        model: &'static str,
    },

    /// A part of a split model, without the name by which the other parts are found.
    #[error(
        "it is part {number} of {count} of a model (`split.count`), but its name does not end in \
         -{number:05}-of-{count:05}; rename the parts to NAME-{number:05}-of-{count:05}.gguf and so on"
    )]
    Split {
        /// From 1.
        number: u64,
        count: u64,
    },

    #[error(
        "it is one of {count} parts of a model, of which these are missing: {}; copy or download them to the same \
         folder", .missing.join(", ")
    )]
    MissingParts {
        count: usize,
        /// File names, or a few and the number of others.
        missing: Vec<String>,
    },

    #[error("unsupported architecture {found:?}; {supported} are supported")]
    Architecture {
        found: String,
        /// The supported names, as in a sentence.
        supported: String,
    },

    #[error("unsupported model: {reason}")]
    Unsupported { reason: String },

    #[error("the tensor {name:?} is missing")]
    MissingTensor { name: String },

    #[error("unexpected tensor {name:?} for the architecture {architecture} with these sizes")]
    UnknownTensor {
        /// Shortened if it is long.
        name: String,
        architecture: &'static str,
    },

    #[error("the tensor {name:?} has the dimensions {found:?}, but the metadata requires {expected:?}")]
    Dims {
        name: String,
        /// In GGUF's order: the length of a row first.
        expected: Vec<usize>,
        found: Vec<usize>,
    },
}

/// The result of reading the model of a GGUF file.
pub type Result<T, E = Error> = std::result::Result<T, E>;
