//! Files and folders that are there whole or not at all.
//!
//! What is being written has a name that ends in `.partial`; what is about to be replaced, one that
//! ends in `.old`; what is being removed, one that ends in `.removed`.

use std::{
    ffi::OsStr,
    fs,
    io::{BufWriter, ErrorKind, Write},
    path::{Path, PathBuf},
};

use crate::{
    Error, Result, failed_to,
    sync::{sync_folder, sync_parent as flush_parent},
};

/// Ends the name of what is being written.
pub const PARTIAL: &str = "partial";
const OLD: &str = "old";
const REMOVED: &str = "removed";

/// Writes a file under a temporary name, flushes it to disk and renames it.
pub fn write_file(path: &Path, contents: &[u8]) -> Result<()> {
    write_with(path, |file| file.write_all(contents).map_err(failed_to("write", path)))
}

/// As [`write_file`], with contents that are made as they are written. If that fails, nothing is left of them.
pub fn write_with<E: From<Error>>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut fs::File>) -> Result<(), E>,
) -> Result<(), E> {
    let partial = temporary(path, PARTIAL);
    let result = write_flushed(&partial, path, write)
        .and_then(|()| Ok(fs::rename(&partial, path).map_err(failed_to("rename to", path))?))
        .and_then(|()| Ok(sync_parent(path)?));
    if result.is_err() {
        let _ = fs::remove_file(&partial); // The first error is the one to tell.
    }
    result
}

/// Writes `partial`, which is to become `path`, down to the disk.
fn write_flushed<E: From<Error>>(
    partial: &Path,
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut fs::File>) -> Result<(), E>,
) -> Result<(), E> {
    let mut file = fs::File::create(partial).map_err(failed_to("create", path))?;
    let mut buffered = BufWriter::new(&mut file);
    write(&mut buffered)?;
    buffered.flush().map_err(failed_to("write", path))?;
    drop(buffered);
    Ok(file.sync_all().map_err(failed_to("flush", path))?)
}

/// Writes a folder under a temporary name, filled by a function that is given that name and flushes what it writes, and
/// renames it.
///
/// A folder of that name is replaced. If a file can't be written, nothing is left of the new ones.
pub fn fill_folder<E: From<Error>>(path: &Path, fill: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    let partial = temporary(path, PARTIAL);
    remove_if_present(&partial)?;
    let created = fs::create_dir(&partial).map_err(failed_to("create", &partial));
    let filled = created.map_err(E::from).and_then(|()| fill(&partial));
    if let Err(error) = filled {
        let _ = remove_if_present(&partial); // The first error is the one to tell.
        return Err(error);
    }
    // One of that name is put aside first, since a folder with something in it can't be renamed over.
    let old = temporary(path, OLD);
    remove_if_present(&old)?;
    if path.exists() {
        fs::rename(path, &old).map_err(failed_to("put aside", path))?;
    }
    rename_folder(&partial, path)?;
    Ok(remove_if_present(&old)?)
}

/// Removes a folder in such a way that none is ever seen with a part of its files under its own name.
pub fn remove_whole(path: &Path) -> Result<()> {
    let removed = temporary(path, REMOVED);
    remove_if_present(&removed)?;
    fs::rename(path, &removed).map_err(failed_to("remove", path))?;
    remove_if_present(&removed)
}

/// Removes a folder, and does not mind if it is not there.
pub fn remove_if_present(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed_to("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes whatever in a folder has a temporary name. What was put aside, and not yet replaced, is put back.
pub fn remove_unfinished(folder: &Path) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed_to("list", folder))?,
    };
    for entry in entries {
        let path = entry.map_err(failed_to("list", folder))?.path();
        if !is_temporary(&path) {
            continue;
        }
        let replaced = path.with_extension("");
        if path.extension().is_some_and(|it| it == OLD) && !replaced.exists() {
            fs::rename(&path, &replaced).map_err(failed_to("put back", &replaced))?;
        } else if path.is_dir() {
            remove_if_present(&path)?;
        } else {
            fs::remove_file(&path).map_err(failed_to("remove", &path))?;
        }
    }
    Ok(())
}

/// Whether a file or folder is one that is being written or replaced, or was cut off in that.
pub fn is_temporary(path: &Path) -> bool {
    path.extension().is_some_and(|it| [PARTIAL, OLD, REMOVED].iter().any(|temporary| it == *temporary))
}

/// `NAME.partial` for NAME, whatever dots are in it.
pub fn temporary(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or(OsStr::new("unnamed")).to_owned();
    name.push(".");
    name.push(extension);
    path.with_file_name(name)
}

/// Flushes the list of names that a file or folder is in: a rename or a removal lasts from here on.
pub fn sync_parent(path: &Path) -> Result<()> {
    flush_parent(path).map_err(failed_to("flush", path.parent().unwrap_or(path)))
}

/// Flushes a folder and renames it, then flushes that.
pub fn rename_folder(partial: &Path, path: &Path) -> Result<()> {
    sync_folder(partial).map_err(failed_to("flush", partial))?;
    fs::rename(partial, path).map_err(failed_to("rename to", path))?;
    sync_parent(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_fails_leaves_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("step-1");
        let write_folder = |path: &Path, files: &[(&str, &[u8])]| {
            fill_folder(path, |partial| {
                files.iter().try_for_each(|(name, contents)| write_file(&partial.join(name), contents))
            })
        };
        // A name with a folder in it that is not there can't be written.
        write_folder(&path, &[("whole", b"1"), ("no/such", b"2")]).unwrap_err();
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
        write_folder(&path, &[("whole", b"1")]).unwrap();
        assert_eq!(fs::read(path.join("whole")).unwrap(), b"1");
    }
}
