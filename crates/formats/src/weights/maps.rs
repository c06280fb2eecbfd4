//! Files that are mapped into memory, each once.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use fs::Map;

use crate::weights::{Result, error::io};

/// The files that tensors are used in where they lie. A file stays mapped as long as a tensor of it is in use.
#[derive(Debug, Default)]
pub struct Maps {
    files: BTreeMap<PathBuf, Bytes>,
}

impl Maps {
    /// The bytes of a file.
    pub(crate) fn of(&mut self, path: &Path) -> Result<Bytes> {
        if let Some(file) = self.files.get(path) {
            return Ok(file.clone());
        }
        let file = Bytes::from_owner(Map::open(path).map_err(io("map", path))?);
        self.files.insert(path.to_owned(), file.clone());
        Ok(file)
    }
}
