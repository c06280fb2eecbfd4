//! Git LFS pointers: small text files that a clone without Git LFS has instead of large files.

use std::{fs::File, io::Read, path::Path};

use crate::weights::{Error, Result};

/// The prefix of every pointer, see [the specification](https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md).
const PREFIX: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Refuses a Git LFS pointer. An unreadable file passes; its reader reports the problem.
///
/// # Errors
///
/// If the file is a pointer.
pub fn refuse_lfs_pointer(path: &Path) -> Result<()> {
    // Reading a pipe may block and consumes its data.
    if !path.is_file() {
        return Ok(());
    }
    let mut prefix = [0; PREFIX.len()];
    match File::open(path).and_then(|mut file| file.read_exact(&mut prefix)) {
        Ok(()) if prefix == PREFIX => Err(Error::LfsPointer { path: path.to_owned() }),
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
