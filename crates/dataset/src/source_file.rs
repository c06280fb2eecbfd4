//! A file of a text: what it was when it was listed, what tells it from others, and its first bytes.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, sniff::HEAD_BYTES};

/// A file as it was when it was listed. If size and time are what they were, so is the content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Absolute path.
    #[serde(with = "crate::path_text")]
    pub path: PathBuf,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Time of the last change, in nanoseconds since 1970; 0 where the file system keeps none.
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

/// What two paths of one file have in common.
#[cfg(unix)]
pub(crate) type Identity = (u64, u64);
#[cfg(not(unix))]
pub(crate) type Identity = PathBuf;

/// Device and inode, or the path without links.
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

/// As many bytes as [`sniff`](crate::sniff::sniff) looks at.
pub(crate) fn read_head(path: &Path) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    let read = |file: File, head: &mut Vec<u8>| file.take(HEAD_BYTES as u64).read_to_end(head);
    File::open(path).and_then(|file| read(file, &mut head)).map_err(|source| Error::read(path, source))?;
    Ok(head)
}
