//! Memory-mapped files.

use std::{fmt, fs::File, io, ops::Deref, path::Path};

use memmap2::Mmap;

/// A read-only memory map of a file.
///
/// It needs no memory of its own: the operating system caches the pages that are read. The file must not be changed in
/// place while it is mapped. Kindling replaces files by renaming a new one over the old, which stays readable while it
/// is mapped.
pub struct Map(Mmap);

impl Map {
    /// Maps a whole file, which may be empty.
    ///
    /// # Errors
    ///
    /// If the file can't be opened or mapped.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the map is read-only, and Kindling never changes a file in place: it renames a new one over the old.
        // The user must ensure the same of other programs, as with every program that maps weights. After such a
        // change, reads return the new contents; if the file becomes shorter, the system stops the process with SIGBUS.
        #[expect(unsafe_code, reason = "a map is only as constant as its file")]
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self(map))
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Map({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_outlives_the_removal_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for contents in [&b"some bytes"[..], b""] {
            std::fs::write(&path, contents).unwrap();
            let map = Map::open(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            assert_eq!(&*map, contents);
        }
        assert_eq!(Map::open(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
