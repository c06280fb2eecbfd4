//! The size, modification time, identity and first bytes of a source file.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, sniff::HEAD_BYTES};

/// A file's size and time when it was listed. If both are unchanged, the content is assumed to be unchanged too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Absolute.
    #[serde(with = "crate::path_serde")]
    pub path: PathBuf,
    pub size_bytes: u64,
    /// Modification time in nanoseconds since 1970; 0 if the file system has none.
    pub modified_ns: u64,
}

impl SourceFile {
    pub(crate) fn stat(path: &Path) -> Result<Self> {
        Ok(Self::new(path, &fs::metadata(path).map_err(|source| Error::read(path, source))?))
    }

    pub(crate) fn new(path: &Path, metadata: &fs::Metadata) -> Self {
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Self {
            path: path.into(),
            size_bytes: metadata.len(),
            modified_ns: modified.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)),
        }
    }
}

/// Identifies a file: equal for all paths to it.
#[cfg(unix)]
pub(crate) type Identity = (u64, u64);
#[cfg(not(unix))]
pub(crate) type Identity = PathBuf;

/// Device and inode on Unix, else the canonical path.
pub(crate) fn identity(path: &Path) -> Result<Identity> {
    let identity = || -> io::Result<Identity> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let metadata = fs::metadata(path)?;
            Ok((metadata.dev(), metadata.ino()))
        }
        #[cfg(not(unix))]
        path.canonicalize()
    };
    identity().map_err(|source| Error::read(path, source))
}

/// Reads the first [`HEAD_BYTES`] bytes of a file.
pub(crate) fn read_head(path: &Path) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    let read = |file: File, head: &mut Vec<u8>| file.take(HEAD_BYTES as u64).read_to_end(head);
    File::open(path).and_then(|file| read(file, &mut head)).map_err(|source| Error::read(path, source))?;
    Ok(head)
}
