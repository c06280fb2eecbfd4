//! Temporary files and folders that several processes can create at the same time, renamed when complete.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tempfile::{NamedTempFile, TempDir};

use crate::sync::sync_parent;

/// The prefix of temporary names.
const TEMPORARY: &str = ".tmp-";

/// Removes temporary files and folders of interrupted processes. The caller must hold the folder's lock.
pub fn remove_leftovers(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in
        entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes()))
    {
        let path = entry.path();
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        if let Err(error) = removed {
            tracing::warn!("cannot remove {}, left by an interrupted process: {error}", path.display());
        }
    }
}

/// A temporary file beside `target`, removed on drop unless it is persisted.
pub fn temporary_file(target: &Path) -> io::Result<NamedTempFile> {
    let folder = target.parent().unwrap_or(target);
    fs::create_dir_all(folder)?;
    builder(0o666).tempfile_in(folder)
}

/// A temporary folder within `folder`, removed on drop unless it is renamed with [`replace_folder`].
pub fn temporary_folder(folder: &Path) -> io::Result<TempDir> {
    fs::create_dir_all(folder)?;
    builder(0o777).tempdir_in(folder)
}

fn builder(mode: u32) -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    set_permissions(builder.prefix(TEMPORARY), mode);
    builder
}

/// Sets the permissions `mode`, restricted by the user's umask as for any new file.
pub(crate) fn set_permissions(builder: &mut tempfile::Builder<'_, '_>, mode: u32) {
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = (builder, mode);
}

/// Flushes a temporary file to disk and renames it to `target`.
pub fn persist(file: NamedTempFile, target: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(target)?;
    sync_parent(target)
}

/// Renames a complete folder to `target`, replacing an existing one. Its files must already be flushed.
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
    fn replacing_a_folder_leaves_no_temporary_folder() {
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
    fn only_leftovers_are_removed() {
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
