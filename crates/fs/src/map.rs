//! Files as bytes in memory.

use std::{fmt, fs::File, io, ops::Deref, path::Path};

use memmap2::Mmap;

/// A file mapped into memory, for reading.
///
/// It costs no memory of its own: the operating system keeps in its page cache what is read. The file must not be
/// changed in place meanwhile. Kindling renames a new file over the old one, which stays readable as long as it is
/// mapped.
pub struct Map(Mmap);

impl Map {
    /// Maps a whole file, which may be empty.
    ///
    /// # Errors
    ///
    /// If the file can't be opened or mapped.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the map is read-only, and Kindling never changes a file in place: it renames a new one over the old. That no
        // other program does is for the user to see to, as with every program that maps weights: numbers read after such a
        // change are those of the new contents, and the system stops the process with SIGBUS if the file becomes shorter.
        #[expect(unsafe_code, reason = "a map is only as constant as the file below it")]
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
    fn a_map_has_the_bytes_of_the_file_and_outlives_its_name() {
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
