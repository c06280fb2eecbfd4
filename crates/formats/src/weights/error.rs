//! Errors while reading weights.

use std::{
    io,
    path::{Path, PathBuf},
};

/// An error while reading weights.
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

    /// A Git LFS pointer instead of the file.
    #[error(
        "{} is a Git LFS pointer, not the file itself; run git lfs pull in the cloned folder, or download the file",
        .path.display()
    )]
    LfsPointer { path: PathBuf },

    /// An invalid or truncated safetensors file.
    #[error("{} is damaged or truncated: {reason}; copy or download it again", .path.display())]
    Safetensors { path: PathBuf, reason: String },

    /// The index of shards is not valid JSON.
    #[error("{} is not a valid index; copy or download it again", .path.display())]
    Index { path: PathBuf, source: serde_json::Error },

    /// An index names a shard outside its folder.
    #[error("{} has an invalid shard name: {shard:?}; only files in the same folder are supported", .path.display())]
    ShardName {
        /// The index.
        path: PathBuf,
        shard: String,
    },

    /// The tensors of the shards differ from the index.
    #[error("{}: {problem}; the shards and the index belong to different models", .path.display())]
    Shards {
        /// The index.
        path: PathBuf,
        problem: String,
    },

    /// An invalid or truncated pickle.
    #[error("cannot read {}: {reason}; copy or download it again", .path.display())]
    PyTorch { path: PathBuf, reason: String },

    /// A pickle has other objects beside tensors.
    #[error(
        "{} has {what} under {key:?}, which is not a tensor; pickled code is never executed. Save only the model's \
         state_dict, or use a safetensors file", .path.display()
    )]
    NotATensor {
        path: PathBuf,
        key: String,
        /// A description of the object.
        what: String,
    },

    #[error("{key} in {} has the unsupported type {dtype}; F32, F16 and BF16 are supported", .path.display())]
    Dtype {
        path: PathBuf,
        key: String,
        /// As named in the file.
        dtype: String,
    },

    /// A value is infinite or NaN.
    #[error("{key} in {} has the value {value} at index {idx}; weights must be finite", .path.display())]
    NotFinite {
        path: PathBuf,
        key: String,
        /// The first such value.
        value: f32,
        /// The index in the flat tensor.
        idx: usize,
    },
}

/// The result of reading weights.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Adds the action and the path to an I/O error.
pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { action, path: path.to_owned(), source }
}
