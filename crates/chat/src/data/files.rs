//! The files of a folder.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
};

use walkdir::{DirEntry, WalkDir};

use crate::{Error, Result};

/// The extension of the files of a folder.
const EXTENSION: &str = "jsonl";

/// A file itself, or the `.jsonl` files in a folder and its subfolders, sorted by path.
///
/// Links are followed, and each file is listed once. As for text data, hidden entries are skipped silently, and links
/// with a warning if they are broken, lead to one of their parent folders, or lead to a file that is already listed.
pub(crate) fn list(path: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut seen = HashSet::new();
    for entry in entries(path) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                skip_link(path, error)?;
                continue;
            }
        };
        if !is_listed(&entry) {
            continue;
        }
        // Only a link can lead to a file again. The path of a stream may have no canonical one.
        if entry.path().canonicalize().is_ok_and(|canonical| !seen.insert(canonical)) {
            tracing::warn!(
                "skipped 1 duplicate link to a file that was already read: {}",
                entry.path().display()
            );
            continue;
        }
        files.push(entry.into_path());
    }
    match files.is_empty() {
        true => Err(Error::NoFiles { path: path.to_owned() }),
        false => Ok(files),
    }
}

/// Like [`list`], without streams, errors and warnings. A file may be listed again for each link to it.
pub(crate) fn readable(path: &Path) -> impl Iterator<Item = PathBuf> {
    let is_file = |entry: &DirEntry| entry.file_type().is_file() && is_listed(entry);
    entries(path).flatten().filter(is_file).map(DirEntry::into_path)
}

fn entries(path: &Path) -> impl Iterator<Item = walkdir::Result<DirEntry>> {
    let entries = WalkDir::new(path).follow_links(true).sort_by_file_name();
    entries.into_iter().filter_entry(|entry| !is_hidden(entry))
}

/// Whether an entry is the path itself, as a file, or a `.jsonl` file in it.
fn is_listed(entry: &DirEntry) -> bool {
    let is_named = entry.depth() == 0 || entry.path().extension() == Some(EXTENSION.as_ref());
    is_named && !entry.file_type().is_dir()
}

fn is_hidden(entry: &DirEntry) -> bool {
    entry.depth() > 0 && entry.file_name().as_encoded_bytes().starts_with(b".")
}

/// Skips a broken or circular link below `root`. Returns any other error.
fn skip_link(root: &Path, error: walkdir::Error) -> Result<()> {
    let path = error.path().unwrap_or(root).to_owned();
    if error.loop_ancestor().is_some() {
        tracing::warn!("skipped 1 link to one of its own parent folders: {}", path.display());
        return Ok(());
    }
    let source = error.into_io_error().unwrap_or_else(|| io::Error::other("cannot list it"));
    if path != root && path.is_symlink() && source.kind() != io::ErrorKind::PermissionDenied {
        tracing::warn!("skipped 1 broken link: {}", path.display());
        return Ok(());
    }
    Err(Error::Read { path, source })
}
