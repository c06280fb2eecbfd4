//! Tells chat data from text, and conversations from preferences.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use serde_json::{Map, Value};

use super::{files, rows::Rows};

/// Rows that are read to tell the kind of data.
const N_ROWS: usize = 5;

/// Bytes that are read of a file.
const N_BYTES: u64 = 1 << 20;

/// The kinds of rows that chat data has. A row can be of both kinds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kinds {
    pub conversations: bool,
    pub preferences: bool,
}

impl Kinds {
    /// The kinds of the first rows of a file or folder, by their keys. The values may be invalid. Text, streams, and paths
    /// that can't be read have none.
    pub fn of(path: &Path) -> Self {
        if !path.is_file() && !path.is_dir() {
            return Self::default();
        }
        let rows = files::readable(path).flat_map(|file| first_rows(&file).unwrap_or_default());
        rows.take(N_ROWS).fold(Self::default(), |all, row| {
            let kinds = row.as_object().map(Self::of_keys).unwrap_or_default();
            Self {
                conversations: all.conversations || kinds.conversations,
                preferences: all.preferences || kinds.preferences,
            }
        })
    }

    /// The kinds of a row with these keys.
    pub(crate) fn of_keys(row: &Map<String, Value>) -> Self {
        let has = |keys: &[&str]| keys.iter().all(|key| row.contains_key(*key));
        let layouts =
            [&["messages"][..], &["conversations"], &["prompt", "completion"], &["instruction", "output"]];
        Self { conversations: layouts.into_iter().any(has), preferences: has(&["chosen"]) }
    }
}

/// The first rows of a file that are JSON.
fn first_rows(path: &Path) -> io::Result<Vec<Value>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(N_BYTES).read_to_end(&mut bytes)?;
    // The last character may be cut.
    if let Err(error) = str::from_utf8(&bytes)
        && error.error_len().is_none()
    {
        bytes.truncate(error.valid_up_to());
    }
    let mut rows = Rows::new(&bytes[..]);
    let mut found = Vec::new();
    for _ in 0..N_ROWS {
        let Some((_, row)) = rows.next(|_| ())? else { break };
        found.extend(row);
    }
    Ok(found)
}
