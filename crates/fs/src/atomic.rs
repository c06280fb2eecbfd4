//! Writes and removes files and folders atomically.
//!
//! During an operation, a new file or folder has a name that ends in `.partial`, a replaced one in `.old`, and a
//! removed one in `.removed`.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{BufWriter, ErrorKind, Write},
    path::{Path, PathBuf},
};

use crate::{
    Error, Result, failed_to,
    scratch::set_permissions,
    sync::{sync_folder, sync_parent as flush_parent},
};

/// The extension of incomplete files and folders.
pub const PARTIAL: &str = "partial";
const OLD: &str = "old";
const REMOVED: &str = "removed";

/// Writes a file under a temporary name, flushes it to disk and renames it.
pub fn write_file(path: &Path, contents: &[u8]) -> Result<()> {
    write_with(path, |file| file.write_all(contents).map_err(failed_to("write", path)))
}

/// Like [`write_file`], with contents written by a function. On failure, the temporary file is removed.
pub fn write_with<E: From<Error>>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut fs::File>) -> Result<(), E>,
) -> Result<(), E> {
    let partial = temporary(path, PARTIAL);
    let result = write_flushed(&partial, path, write)
        .and_then(|()| Ok(fs::rename(&partial, path).map_err(failed_to("rename to", path))?))
        .and_then(|()| Ok(sync_parent(path)?));
    if result.is_err() {
        let _ = fs::remove_file(&partial); // The first error is returned.
    }
    result
}

/// Like [`write_with`], for a file that must not exist. Several processes may try to create it: one of them succeeds, and
/// the others fail with [`ErrorKind::AlreadyExists`].
pub fn create_with<E: From<Error>>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut fs::File>) -> Result<(), E>,
) -> Result<(), E> {
    let (prefix, parent) = unique(path);
    let mut partial =
        unique_builder(&prefix, 0o666).tempfile_in(parent).map_err(failed_to("create", path))?;
    fill_flushed(partial.as_file_mut(), path, write)?;
    partial.persist_noclobber(path).map_err(|error| failed_to("create", path)(error.error))?;
    Ok(sync_parent(path)?)
}

/// Writes `partial`, the temporary file of `path`, and flushes it to disk.
fn write_flushed<E: From<Error>>(
    partial: &Path,
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut fs::File>) -> Result<(), E>,
) -> Result<(), E> {
    let mut file = fs::File::create(partial).map_err(failed_to("create", path))?;
    fill_flushed(&mut file, path, write)
}

/// Writes the temporary file of `path`, and flushes it to disk.
fn fill_flushed<E: From<Error>>(
    file: &mut fs::File,
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut fs::File>) -> Result<(), E>,
) -> Result<(), E> {
    let mut buffered = BufWriter::new(&mut *file);
    write(&mut buffered)?;
    buffered.flush().map_err(failed_to("write", path))?;
    drop(buffered);
    Ok(file.sync_all().map_err(failed_to("flush", path))?)
}

/// The start of a temporary name that is unique, and its folder.
fn unique(path: &Path) -> (OsString, &Path) {
    let mut prefix = path.file_name().unwrap_or(OsStr::new("unnamed")).to_owned();
    prefix.push(".");
    let parent = path.parent().filter(|&parent| parent != Path::new(""));
    (prefix, parent.unwrap_or(Path::new(".")))
}

/// Names such as `NAME.Ab3dEf.partial`.
fn unique_builder(prefix: &OsStr, mode: u32) -> tempfile::Builder<'_, 'static> {
    let mut builder = tempfile::Builder::new();
    set_permissions(builder.prefix(prefix).suffix(".partial"), mode);
    builder
}

/// Like [`fill_folder`], for a folder that must not exist. Several processes may try to create it: one of them succeeds,
/// and the others fail.
pub fn create_folder<E: From<Error>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let (prefix, parent) = unique(path);
    let partial = unique_builder(&prefix, 0o777).tempdir_in(parent).map_err(failed_to("create", path))?;
    fill(partial.path())?;
    rename_folder(partial.path(), path)?; // The folder of another process is not empty, so the rename fails.
    let _ = partial.keep();
    Ok(())
}

/// Creates a folder under a temporary name, calls `fill` with that name, and renames the folder. `fill` must flush its
/// files.
///
/// An existing folder is replaced. On failure, the temporary folder is removed.
pub fn fill_folder<E: From<Error>>(path: &Path, fill: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    let partial = temporary(path, PARTIAL);
    remove_if_present(&partial)?;
    let created = fs::create_dir(&partial).map_err(failed_to("create", &partial));
    let filled = created.map_err(E::from).and_then(|()| fill(&partial));
    if let Err(error) = filled {
        let _ = remove_if_present(&partial); // The first error is returned.
        return Err(error);
    }
    // An existing folder is moved aside first, since a non-empty folder can't be replaced by a rename.
    let old = temporary(path, OLD);
    remove_if_present(&old)?;
    if path.exists() {
        fs::rename(path, &old).map_err(failed_to("move aside", path))?;
    }
    rename_folder(&partial, path)?;
    Ok(remove_if_present(&old)?)
}

/// Removes a folder atomically: it never exists under its own name with only a part of its files.
pub fn remove_folder(path: &Path) -> Result<()> {
    let removed = temporary(path, REMOVED);
    remove_if_present(&removed)?;
    fs::rename(path, &removed).map_err(failed_to("remove", path))?;
    remove_if_present(&removed)
}

/// Removes a folder, if it exists.
pub fn remove_if_present(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed_to("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes files and folders with temporary names. One that was moved aside and not replaced is restored.
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
            fs::rename(&path, &replaced).map_err(failed_to("restore", &replaced))?;
        } else if path.is_dir() {
            remove_if_present(&path)?;
        } else {
            fs::remove_file(&path).map_err(failed_to("remove", &path))?;
        }
    }
    Ok(())
}

/// Whether a path has a temporary name, from an operation in progress or interrupted.
pub fn is_temporary(path: &Path) -> bool {
    path.extension().is_some_and(|it| [PARTIAL, OLD, REMOVED].iter().any(|temporary| it == *temporary))
}

/// Appends an extension to the name: `NAME.partial` for NAME, which may contain dots.
pub fn temporary(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or(OsStr::new("unnamed")).to_owned();
    name.push(".");
    name.push(extension);
    path.with_file_name(name)
}

/// Flushes the parent folder of a path, which makes a rename or removal durable.
pub fn sync_parent(path: &Path) -> Result<()> {
    flush_parent(path).map_err(failed_to("flush", path.parent().unwrap_or(path)))
}

/// Flushes a folder, renames it, and flushes the rename.
pub fn rename_folder(partial: &Path, path: &Path) -> Result<()> {
    sync_folder(partial).map_err(failed_to("flush", partial))?;
    fs::rename(partial, path).map_err(failed_to("rename to", path))?;
    sync_parent(path)
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use super::*;

    #[test]
    fn of_several_that_create_one_path_one_succeeds() {
        let parent = tempfile::tempdir().unwrap();
        let (file, folder) = (parent.path().join("file"), parent.path().join("folder"));
        let barrier = Barrier::new(4);
        let create = |number: u8| {
            // All have checked and written before one of them finishes.
            let created = create_with(&file, |out| {
                out.write_all(&[number; 9]).unwrap();
                barrier.wait();
                Ok::<_, Error>(())
            });
            let filled = create_folder(&folder, |partial| {
                fs::write(partial.join("file"), [number; 9]).unwrap();
                barrier.wait();
                Ok::<_, Error>(())
            });
            (created.is_ok().then_some(number), filled.is_ok().then_some(number))
        };
        let results: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|number| scope.spawn(move || create(number))).collect();
            threads.into_iter().map(|it| it.join().unwrap()).collect()
        });
        let winner = |path: &Path, winners: Vec<u8>| {
            assert_eq!(winners.len(), 1, "{}", path.display());
            assert_eq!(fs::read(path).unwrap(), [winners[0]; 9]);
        };
        winner(&file, results.iter().filter_map(|result| result.0).collect());
        winner(&folder.join("file"), results.iter().filter_map(|result| result.1).collect());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2, "no temporary file is left");
    }

    #[test]
    fn a_failed_folder_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("step-1");
        let write_folder = |path: &Path, files: &[(&str, &[u8])]| {
            fill_folder(path, |partial| {
                files.iter().try_for_each(|(name, contents)| write_file(&partial.join(name), contents))
            })
        };
        // The parent folder of `no/such` does not exist.
        write_folder(&path, &[("whole", b"1"), ("no/such", b"2")]).unwrap_err();
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
        write_folder(&path, &[("whole", b"1")]).unwrap();
        assert_eq!(fs::read(path.join("whole")).unwrap(), b"1");
    }
}
