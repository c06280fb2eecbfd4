//! Git LFS pointers: small texts that a clone without Git LFS has in place of large files.

use std::{fs::File, io::Read, path::Path};

use crate::weights::{Error, Result};

/// The beginning of every pointer.
///
/// See [the specification](https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md).
const BEGINNING: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Refuses a file that is a Git LFS pointer. A file that can't be read is left to whoever reads it.
///
/// # Errors
///
/// If it is a pointer.
pub fn refuse_lfs_pointer(path: &Path) -> Result<()> {
    // A pipe would block, and what is read of it is gone.
    if !path.is_file() {
        return Ok(());
    }
    let mut beginning = [0; BEGINNING.len()];
    match File::open(path).and_then(|mut file| file.read_exact(&mut beginning)) {
        Ok(()) if beginning == BEGINNING => Err(Error::LfsPointer { path: path.to_owned() }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_first_line_of_a_pointer_suffices() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        for (text, is_pointer) in [
            ("version https://git-lfs.github.com/spec/v1\noid sha256:01\nsize 5\n", true),
            ("version https://git-lfs.github.com/spec/v1\n", true),
            ("version https://git-lfs.github.com/spec/v1", true),
            ("version https://git-lfs.github.com/", false),
            ("", false),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(refuse_lfs_pointer(&path).is_err(), is_pointer, "{text:?}");
        }
    }
}
