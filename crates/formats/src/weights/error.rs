//! Why weights could not be read.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why weights could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A pointer of Git LFS in place of the file.
    #[error(
        "{} is a pointer of Git LFS, and not the file; run git lfs pull in the folder that was cloned, or download the \
         file itself", .path.display()
    )]
    LfsPointer {
        /// The file.
        path: PathBuf,
    },

    /// A file that is no safetensors file, or not all of one.
    #[error("{} is damaged or cut short: {reason}; copy it again from where it came from", .path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },

    /// An index of shards that is none.
    #[error("cannot understand {}; copy it again from where it came from", .path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },

    /// An index that names something else than a file beside it.
    #[error("{} names the shard {shard:?}, which is no file beside it", .path.display())]
    ShardName {
        /// The index.
        path: PathBuf,
        /// What it names.
        shard: String,
    },

    /// An index whose shards are not those it describes.
    #[error("{}: {problem}; the shards and the index are not of one model", .path.display())]
    Shards {
        /// The index.
        path: PathBuf,
        /// Which tensor, and what about it.
        problem: String,
    },

    /// A file that is no pickle of tensors, or not all of one.
    #[error("{} can't be read: {reason}; copy it again from where it came from", .path.display())]
    PyTorch {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },

    /// Something in a pickle that is no tensor.
    #[error(
        "{} has {what} under {key:?}, which is not a tensor; nothing of it was executed. Save the model's \
         state_dict alone, or use a safetensors file", .path.display()
    )]
    NotATensor {
        /// The file.
        path: PathBuf,
        /// Where in the pickle it is.
        key: String,
        /// What it is.
        what: String,
    },

    /// Numbers of a type that no weight has.
    #[error("{key} in {} is {dtype}; F32, F16 and BF16 can be read", .path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        key: String,
        /// The type, as the file calls it.
        dtype: String,
    },

    /// Numbers that are not finite.
    #[error("{key} in {} has {value} at {idx}; a model with such weights writes nothing", .path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        key: String,
        /// The first such number.
        value: f32,
        /// Its place among all numbers of the tensor.
        idx: usize,
    },
}

/// The result of reading weights.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Makes an I/O error say what was done to which path.
pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { action, path: path.to_owned(), source }
}
