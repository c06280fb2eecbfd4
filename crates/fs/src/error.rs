//! What could not be done to which file.

use std::{
    io,
    path::{Path, PathBuf},
};

/// What could not be done to a file or folder, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", .path.display())]
pub struct Error {
    /// What was tried, as a verb.
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

/// The result of an operation on files.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An [`Error`] of an [`io::Error`], for `map_err`.
pub fn failed_to(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error { action, path: path.to_owned(), source }
}
