//! I/O errors with the action and the path.

use std::{
    io,
    path::{Path, PathBuf},
};

/// An I/O error with the action and the path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", .path.display())]
pub struct Error {
    /// A verb, such as `write`.
    pub action: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

/// A result with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Converts an [`io::Error`] to an [`Error`], for `map_err`.
pub fn failed_to(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error { action, path: path.to_owned(), source }
}
