//! Temporary files and checksums with this crate's errors; the error for a full disk includes the space needed.

use std::path::Path;

use tempfile::NamedTempFile;

use crate::{Error, Result};

/// A temporary file beside `target`, removed on drop unless it is persisted.
pub(crate) fn temporary_file(target: &Path, needed_bytes: u64) -> Result<NamedTempFile> {
    ::fs::scratch::temporary_file(target).map_err(|source| Error::write(target, needed_bytes, source))
}

/// Flushes a temporary file to disk and renames it to `target`.
pub(crate) fn persist(file: NamedTempFile, target: &Path, needed_bytes: u64) -> Result<()> {
    ::fs::scratch::persist(file, target).map_err(|source| Error::write(target, needed_bytes, source))
}

/// The SHA-256 of a file. `on_bytes` receives the size of each block read.
pub(crate) fn sha256_of_file(path: &Path, on_bytes: impl FnMut(u64)) -> Result<String> {
    ::fs::sha256_of_file(path, on_bytes).map_err(|source| Error::read(path, source))
}
