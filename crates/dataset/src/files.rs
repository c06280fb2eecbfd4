//! Temporary files and checksums, with the errors of this crate: a full disk is one that says how much is needed.

use std::path::Path;

use tempfile::NamedTempFile;

use crate::{Error, Result};

/// A file beside `target` that removes itself unless it is persisted.
pub(crate) fn temporary_file(target: &Path, needed_bytes: u64) -> Result<NamedTempFile> {
    ::fs::scratch::temporary_file(target).map_err(|source| Error::write(target, needed_bytes, source))
}

/// Flushes a file to the disk and gives it its name.
pub(crate) fn persist(file: NamedTempFile, target: &Path, needed_bytes: u64) -> Result<()> {
    ::fs::scratch::persist(file, target).map_err(|source| Error::write(target, needed_bytes, source))
}

/// The SHA-256 of a file. `on_bytes` is told how many more bytes were read.
pub(crate) fn sha256_of_file(path: &Path, on_bytes: impl FnMut(u64)) -> Result<String> {
    ::fs::sha256_of_file(path, on_bytes).map_err(|source| Error::read(path, source))
}
