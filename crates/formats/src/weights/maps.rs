//! Memory-mapped files.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use fs::Map;

use crate::weights::{Result, error::io};

/// Memory-mapped weight files, each mapped once. A file stays mapped as long as one of its tensors is in use.
#[derive(Debug, Default)]
pub struct Maps {
    files: BTreeMap<PathBuf, Bytes>,
}

impl Maps {
    /// Maps a file, or returns the existing mapping.
    pub(crate) fn get(&mut self, path: &Path) -> Result<Bytes> {
        if let Some(file) = self.files.get(path) {
            return Ok(file.clone());
        }
        let file = Bytes::from_owner(Map::open(path).map_err(io("map", path))?);
        self.files.insert(path.to_owned(), file.clone());
        Ok(file)
    }
}
