//! Temporary files and folders that several processes may make at the same time, and that are renamed when they are whole.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tempfile::{NamedTempFile, TempDir};

use crate::sync::sync_parent;

/// Begins the name of whatever is not finished.
const TEMPORARY: &str = ".tmp-";

/// Removes what interrupted runs left in a folder. Only for who holds its lock.
pub fn remove_leftovers(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in
        entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes()))
    {
        let path = entry.path();
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        if let Err(error) = removed {
            tracing::warn!("cannot remove {}, left by an interrupted run: {error}", path.display());
        }
    }
}

/// A file beside `target` that removes itself unless it is persisted.
pub fn temporary_file(target: &Path) -> io::Result<NamedTempFile> {
    let folder = target.parent().unwrap_or(target);
    fs::create_dir_all(folder)?;
    builder(0o666).tempfile_in(folder)
}

/// A folder within `folder` that removes itself unless it replaces another.
pub fn temporary_folder(folder: &Path) -> io::Result<TempDir> {
    fs::create_dir_all(folder)?;
    builder(0o777).tempdir_in(folder)
}

/// Permissions are those of any new file, less the user's umask.
fn builder(mode: u32) -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

/// Flushes a file to the disk and gives it its name.
pub fn persist(file: NamedTempFile, target: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(target)?;
    sync_parent(target)
}

/// Gives a finished folder its name, in place of the one that may have it. The files in it are on the disk.
pub fn replace_folder(folder: TempDir, target: &Path) -> io::Result<()> {
    let mut aside = None;
    if target.exists() {
        let parent = target.parent().unwrap_or(target);
        let old = temporary_folder(parent)?;
        fs::rename(target, old.path().join("old"))?;
        aside = Some(old);
    }
    let path: PathBuf = folder.keep();
    fs::rename(&path, target)?;
    drop(aside);
    sync_parent(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_replaces_another_and_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("name");
        for content in ["old", "new"] {
            let folder = temporary_folder(root.path()).unwrap();
            fs::write(folder.path().join("file"), content).unwrap();
            replace_folder(folder, &target).unwrap();
            assert_eq!(fs::read_to_string(target.join("file")).unwrap(), content);
        }
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn leftovers_are_removed_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(".tmp-abc")).unwrap();
        fs::write(root.path().join(".tmp-abc/half"), "half").unwrap();
        fs::write(root.path().join(".tmp-def"), "half").unwrap();
        fs::write(root.path().join("kept"), "whole").unwrap();
        remove_leftovers(root.path());
        let left: Vec<_> =
            fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["kept"]);
        remove_leftovers(&root.path().join("no such folder"));
    }
}
