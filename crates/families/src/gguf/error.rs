//! Why the model of a GGUF file could not be read.

use formats::gguf;

/// Why the model of a GGUF file could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that is damaged, or lacks a key.
    #[error(transparent)]
    File(#[from] gguf::Error),

    /// A file of another kind, such as an adapter.
    #[error("it is {what} (`general.type` is {found:?}), not a model{advice}")]
    OtherType {
        /// What it is.
        what: &'static str,
        /// What it calls itself.
        found: String,
        /// How to get a model of it.
        advice: &'static str,
    },

    /// A part of a model in several files.
    #[error(
        "it is part {number} of {count} of a model (`split.count`); merge all of them first, with llama.cpp's \
         llama-gguf-split --merge PART-1 MERGED"
    )]
    Split {
        /// The number of the part, from 1.
        number: u64,
        /// How many there are.
        count: u64,
    },

    /// A model of another kind.
    #[error("the architecture {found:?} is not supported; {supported} are")]
    Architecture {
        /// Its name.
        found: String,
        /// Those that are.
        supported: String,
    },

    /// A model that does what is not done here.
    #[error("the model is not supported: {reason}")]
    Unsupported {
        /// What it does.
        reason: String,
    },

    /// A weight that a model can't be without.
    #[error("the tensor {name:?} is missing")]
    MissingTensor {
        /// The tensor.
        name: String,
    },

    /// A weight that the model of this architecture has not.
    #[error("the tensor {name:?} belongs to no model of the architecture {architecture} with these sizes")]
    UnknownTensor {
        /// The tensor; the end of a long name is left out.
        name: String,
        /// The architecture.
        architecture: &'static str,
    },

    /// A weight of another size than the metadata says.
    #[error("the tensor {name:?} is {found:?}, and by the metadata it has to be {expected:?}")]
    Dims {
        /// The tensor.
        name: String,
        /// Its dimensions by the metadata, rows first.
        expected: Vec<usize>,
        /// Its dimensions.
        found: Vec<usize>,
    },
}

/// The result of reading the model of a GGUF file.
pub type Result<T, E = Error> = std::result::Result<T, E>;
