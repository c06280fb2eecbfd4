//! One shard: the tokens of a part of a corpus, little-endian and without a header, as nanoGPT writes them.

use std::path::Path;

use ::fs::Map;

use crate::{Dtype, Error, Result};

/// The tokens of one part of a corpus, memory-mapped or in memory.
///
/// A mapped shard costs no memory of its own: the operating system keeps in its page cache what is read. The
/// file must not be changed in place meanwhile; [`prepare`](crate::prepare()) never does, it renames a whole new
/// folder over the old one.
#[derive(Debug)]
pub struct Tokens(Storage);

#[derive(Debug)]
enum Storage {
    Mapped { file: Map, dtype: Dtype, n_tokens: usize },
    InMemory(Vec<u32>),
}

impl Tokens {
    /// Maps a shard of tokens that are `dtype` wide.
    pub fn open(path: &Path, dtype: Dtype) -> Result<Self> {
        let file = Map::open(path).map_err(|source| Error::Map { path: path.into(), source })?;
        let size_bytes = file.len();
        if !size_bytes.is_multiple_of(dtype.size_bytes()) {
            return Err(Error::ShardSize { path: path.into(), size_bytes, dtype });
        }
        Ok(Self(Storage::Mapped { file, dtype, n_tokens: size_bytes / dtype.size_bytes() }))
    }

    /// Tokens that are in memory already.
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

    /// Whether there is no token at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first token that is none of a vocabulary of `vocab_size`, as its position and its id.
    pub(crate) fn find_outside(&self, vocab_size: usize) -> Option<(usize, u32)> {
        const AT_ONCE: usize = 1 << 12;
        let mut ids = [0; AT_ONCE];
        (0..self.len()).step_by(AT_ONCE).find_map(|start| {
            let ids = &mut ids[..AT_ONCE.min(self.len() - start)];
            self.copy_range(start, ids);
            let found = ids.iter().position(|id| id.cast_unsigned() as usize >= vocab_size)?;
            Some((start + found, ids[found].cast_unsigned()))
        })
    }

    /// Copies `out.len()` tokens from position `start` on, as the 32-bit integers that tensors hold.
    ///
    /// # Panics
    ///
    /// If the range reaches beyond the last token.
    pub fn copy_range(&self, start: usize, out: &mut [i32]) {
        let n_tokens = self.len();
        assert!(
            start.checked_add(out.len()).is_some_and(|end| end <= n_tokens),
            "{} tokens from {start} on reach beyond the {n_tokens} there are",
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

/// `len` elements of `SIZE` bytes, from element `start` on.
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
    fn a_mapped_shard_reads_as_the_tokens_written() {
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
    #[should_panic(expected = "2 tokens from 2 on reach beyond the 3 there are")]
    fn reading_beyond_the_end_panics() {
        read(&Tokens::from_vec(vec![1, 2, 3]), 2, 2);
    }

    #[test]
    fn the_width_follows_the_vocabulary() {
        assert_eq!(Dtype::for_vocab(65_536), Dtype::U16);
        assert_eq!(Dtype::for_vocab(65_537), Dtype::U32);
    }
}
