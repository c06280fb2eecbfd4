//! A shard: the tokens of a training or validation part, little-endian and without a header, as in nanoGPT.

use std::path::Path;

use ::fs::Map;

use crate::{Dtype, Error, Result};

/// The tokens of a shard, memory-mapped or in memory.
///
/// A mapped shard needs no memory of its own: the operating system caches the pages that are read. The file must not be
/// changed in place while it is mapped. [`prepare`](crate::prepare()) never does so: it replaces the whole folder by
/// renaming a new one.
#[derive(Debug)]
pub struct Tokens(Storage);

#[derive(Debug)]
enum Storage {
    Mapped { file: Map, dtype: Dtype, n_tokens: usize },
    InMemory(Vec<u32>),
}

impl Tokens {
    /// Maps a shard of `dtype` tokens.
    pub fn open(path: &Path, dtype: Dtype) -> Result<Self> {
        let file = Map::open(path).map_err(|source| Error::Map { path: path.into(), source })?;
        let size_bytes = file.len();
        if !size_bytes.is_multiple_of(dtype.size_bytes()) {
            return Err(Error::ShardSize { path: path.into(), size_bytes, dtype });
        }
        Ok(Self(Storage::Mapped { file, dtype, n_tokens: size_bytes / dtype.size_bytes() }))
    }

    /// Tokens in memory.
    pub fn from_vec(ids: Vec<u32>) -> Self {
        Self(Storage::InMemory(ids))
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        match &self.0 {
            Storage::Mapped { n_tokens, .. } => *n_tokens,
            Storage::InMemory(ids) => ids.len(),
        }
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Position and id of the first token that is not below `vocab_size`.
    pub(crate) fn find_outside(&self, vocab_size: usize) -> Option<(usize, u32)> {
        const BLOCK_TOKENS: usize = 1 << 12;
        let mut ids = [0; BLOCK_TOKENS];
        (0..self.len()).step_by(BLOCK_TOKENS).find_map(|start| {
            let ids = &mut ids[..BLOCK_TOKENS.min(self.len() - start)];
            self.copy_range(start, ids);
            let found = ids.iter().position(|id| id.cast_unsigned() as usize >= vocab_size)?;
            Some((start + found, ids[found].cast_unsigned()))
        })
    }

    /// Copies `out.len()` tokens, from position `start`, as the 32-bit integers of tensors.
    ///
    /// # Panics
    ///
    /// If the range is out of bounds.
    pub fn copy_range(&self, start: usize, out: &mut [i32]) {
        let n_tokens = self.len();
        assert!(
            start.checked_add(out.len()).is_some_and(|end| end <= n_tokens),
            "{} tokens from position {start} are out of bounds: the shard has {n_tokens}",
            out.len()
        );
        match &self.0 {
            Storage::InMemory(ids) => {
                for (slot, id) in out.iter_mut().zip(&ids[start..]) {
                    *slot = id.cast_signed();
                }
            }
            Storage::Mapped { file, dtype: Dtype::U16, .. } => {
                let elements = elements::<2>(file, start, out.len());
                for (slot, bytes) in out.iter_mut().zip(elements) {
                    *slot = i32::from(u16::from_le_bytes(*bytes));
                }
            }
            Storage::Mapped { file, dtype: Dtype::U32, .. } => {
                let elements = elements::<4>(file, start, out.len());
                for (slot, bytes) in out.iter_mut().zip(elements) {
                    *slot = i32::from_le_bytes(*bytes);
                }
            }
        }
    }
}

/// `len` elements of `SIZE` bytes, from element `start`.
fn elements<const SIZE: usize>(file: &[u8], start: usize, len: usize) -> &[[u8; SIZE]] {
    file[start * SIZE..][..len * SIZE].as_chunks().0
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(tokens: &Tokens, start: usize, len: usize) -> Vec<i32> {
        let mut out = vec![-1; len];
        tokens.copy_range(start, &mut out);
        out
    }

    #[test]
    fn a_mapped_shard_has_the_tokens_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shard.bin");

        fs::write(&path, [1, 0, 0xff, 0xff, 0x34, 0x12]).unwrap();
        let narrow = Tokens::open(&path, Dtype::U16).unwrap();
        assert_eq!(narrow.len(), 3);
        assert_eq!(read(&narrow, 0, 3), [1, 65535, 0x1234]);
        assert_eq!(read(&narrow, 1, 2), [65535, 0x1234]);

        fs::write(&path, [1, 0, 0, 0, 0x78, 0x56, 0x34, 0x12]).unwrap();
        let wide = Tokens::open(&path, Dtype::U32).unwrap();
        assert_eq!(read(&wide, 0, 2), [1, 0x1234_5678]);
        assert_eq!(read(&wide, 2, 0), [0; 0]);
    }

    #[test]
    fn an_empty_shard_has_no_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shard.bin");
        fs::write(&path, []).unwrap();
        assert!(Tokens::open(&path, Dtype::U16).unwrap().is_empty());
    }

    #[test]
    fn half_a_token_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shard.bin");
        fs::write(&path, [1, 0, 2]).unwrap();
        let error = Tokens::open(&path, Dtype::U16).unwrap_err();
        assert!(matches!(error, Error::ShardSize { size_bytes: 3, .. }), "{error}");
        assert!(matches!(Tokens::open(&folder.path().join("no"), Dtype::U16), Err(Error::Map { .. })));
    }

    #[test]
    #[should_panic(expected = "2 tokens from position 2 are out of bounds: the shard has 3")]
    fn reading_beyond_the_end_panics() {
        read(&Tokens::from_vec(vec![1, 2, 3]), 2, 2);
    }

    #[test]
    fn the_dtype_depends_on_the_vocabulary_size() {
        assert_eq!(Dtype::for_vocab(65_536), Dtype::U16);
        assert_eq!(Dtype::for_vocab(65_537), Dtype::U32);
    }
}
