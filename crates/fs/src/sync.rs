//! Flushes folders to make renames durable.

use std::{fs::File, io, path::Path};

/// Flushes the parent folder of a path.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent != Path::new("") => sync_folder(parent),
        _ => sync_folder(Path::new(".")),
    }
}

/// Flushes a folder's entries. Does nothing except on Unix, where folders can be opened.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}
