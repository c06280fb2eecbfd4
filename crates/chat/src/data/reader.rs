//! Reads the rows of files and folders one by one.

use std::{
    fmt,
    fs::File,
    io::{self, BufReader},
    mem,
    path::{Path, PathBuf},
    sync::Arc,
    vec,
};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Preference, files, layout::conversation, preference::preference, rows::Rows};
use crate::{Conversation, Error, Flaw, Result};

/// Bytes read at a time.
const BUFFER_BYTES: usize = 1 << 16;

/// A value and the place of its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    pub path: Arc<Path>,
    /// The line of the row, from 1.
    pub line: usize,
    pub value: T,
}

impl<T> fmt::Display for Located<T> {
    /// The place alone: `FILE:LINE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

/// Reads the rows of a file, or of the `.jsonl` files of a folder, one by one.
///
/// A row with a flaw is an [`Error::Row`], and reading continues with the next one. After an [`Error::Read`] there are
/// no more rows.
pub struct Reader<T> {
    files: vec::IntoIter<PathBuf>,
    current: Option<(Arc<Path>, Rows<BufReader<File>>)>,
    hasher: Sha256,
    parse: fn(Value) -> Result<T, Flaw>,
}

impl Reader<Conversation> {
    /// Reads conversations, in any of the layouts of [`data`](crate::data).
    ///
    /// # Errors
    ///
    /// If the path can't be read, or is a folder without `.jsonl` files.
    pub fn conversations(path: &Path) -> Result<Self> {
        Self::open(path, conversation)
    }
}

impl Reader<Preference> {
    /// Reads preferences between two answers.
    ///
    /// # Errors
    ///
    /// As [`Reader::conversations`].
    pub fn preferences(path: &Path) -> Result<Self> {
        Self::open(path, preference)
    }
}

impl<T> Reader<T> {
    fn open(path: &Path, parse: fn(Value) -> Result<T, Flaw>) -> Result<Self> {
        Ok(Self { files: files::list(path)?.into_iter(), current: None, hasher: Sha256::new(), parse })
    }

    /// The SHA-256 of the bytes read, of all files in order, as hexadecimal digits.
    ///
    /// After the last row it identifies the data. For one file, `sha256sum` prints the same.
    pub fn checksum(&self) -> String {
        fs::hex(&self.hasher.clone().finalize())
    }

    fn read(&mut self) -> Result<Option<Located<T>>> {
        loop {
            let (path, rows) = match &mut self.current {
                Some(current) => current,
                None => {
                    let Some(path) = self.files.next() else { return Ok(None) };
                    let file = File::open(&path).map_err(|source| unreadable(&path, source))?;
                    let rows = Rows::new(BufReader::with_capacity(BUFFER_BYTES, file));
                    self.current.insert((path.into(), rows))
                }
            };
            let row = rows.next(|bytes| self.hasher.update(bytes));
            let Some((line, row)) = row.map_err(|source| unreadable(path, source))? else {
                self.current = None;
                continue;
            };
            let path = Arc::clone(path);
            return match row.and_then(self.parse) {
                Ok(value) => Ok(Some(Located { path, line, value })),
                Err(flaw) => Err(Error::Row { path: path.to_path_buf(), line, flaw }),
            };
        }
    }
}

impl<T> Iterator for Reader<T> {
    type Item = Result<Located<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.read().transpose();
        if matches!(row, Some(Err(Error::Read { .. }))) {
            self.current = None;
            mem::take(&mut self.files);
        }
        row
    }
}

impl<T> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("files", &self.files).finish_non_exhaustive()
    }
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::Read { path: path.to_owned(), source }
}
