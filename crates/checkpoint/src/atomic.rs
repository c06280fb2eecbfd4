//! Files and folders that are there whole or not at all.

use std::{
    fs,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use atomic_write_file::AtomicWriteFile;

use crate::{Result, error::io};

/// Writes a file under a temporary name, flushes it to disk and renames it.
pub(crate) fn write_file(path: &Path, contents: &[u8]) -> Result<()> {
    write_with(path, |file| file.write_all(contents).map_err(io("write", path)))
}

/// As [`write_file`], with contents that are made as they are written. If that fails, nothing is left of them.
pub(crate) fn write_with<E: From<crate::Error>>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut fs::File>) -> Result<(), E>,
) -> Result<(), E> {
    let mut file = AtomicWriteFile::open(path).map_err(io("create", path))?;
    let mut buffered = BufWriter::new(file.as_file_mut());
    write(&mut buffered)?;
    buffered.flush().map_err(io("write", path))?;
    drop(buffered);
    Ok(file.commit().map_err(io("write", path))?)
}

/// Writes a folder of files under a temporary name, flushes each and renames the folder.
///
/// A folder of that name is replaced. If a file can't be written, nothing is left of the new ones.
pub(crate) fn write_folder(path: &Path, files: &[(&str, &[u8])]) -> Result<()> {
    let partial = partial_name(path);
    remove_if_present(&partial)?;
    if let Err(error) = write_files(&partial, files) {
        let _ = remove_if_present(&partial); // The first error is the one to tell.
        return Err(error);
    }
    // One of that name is put aside first: there is never a moment without a whole one on disk.
    let old = path.with_extension("old");
    remove_if_present(&old)?;
    if path.exists() {
        fs::rename(path, &old).map_err(io("put aside", path))?;
    }
    fs::rename(&partial, path).map_err(io("rename to", path))?;
    path.parent().map_or(Ok(()), sync_folder)?;
    remove_if_present(&old)
}

fn write_files(folder: &Path, files: &[(&str, &[u8])]) -> Result<()> {
    fs::create_dir_all(folder).map_err(io("create", folder))?;
    for (name, contents) in files {
        let path = folder.join(name);
        let mut file = fs::File::create(&path).map_err(io("create", &path))?;
        file.write_all(contents).map_err(io("write", &path))?;
        file.sync_all().map_err(io("flush", &path))?;
    }
    Ok(())
}

/// Removes a folder, and does not mind if it is not there.
pub(crate) fn remove_if_present(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io("remove", path)(error)),
        _ => Ok(()),
    }
}

fn partial_name(path: &Path) -> PathBuf {
    path.with_extension("partial")
}

/// Flushes a folder's list of names; only Unix lets a folder be opened.
fn sync_folder(path: &Path) -> Result<()> {
    if cfg!(unix) {
        fs::File::open(path).and_then(|folder| folder.sync_all()).map_err(io("flush", path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_fails_leaves_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("step-1");
        // A name with a folder in it that is not there can't be written.
        write_folder(&path, &[("whole", b"1"), ("no/such", b"2")]).unwrap_err();
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
        write_folder(&path, &[("whole", b"1")]).unwrap();
        assert_eq!(fs::read(path.join("whole")).unwrap(), b"1");
    }
}
