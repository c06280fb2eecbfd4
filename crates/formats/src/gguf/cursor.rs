//! A checked position in the bytes of a file.

use crate::gguf::{Error, Result};

/// Reads a file from start to end and never beyond.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    offset: usize,
    /// Whether lengths and counts have 32 bits, as in version 1, instead of 64.
    pub(crate) short_lengths: bool,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0, short_lengths: false }
    }

    /// The current position, in bytes.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.left() == 0
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.offset
    }

    pub(crate) fn take(&mut self, n_bytes: usize, what: &'static str) -> Result<&'a [u8]> {
        self.take_u64(n_bytes as u64, what)
    }

    fn take_u64(&mut self, needed: u64, what: &'static str) -> Result<&'a [u8]> {
        let (offset, left) = (self.offset, self.left());
        let n_bytes = usize::try_from(needed)
            .ok()
            .filter(|&n_bytes| n_bytes <= left)
            .ok_or(Error::Truncated { what, offset, needed, left })?;
        self.offset += n_bytes;
        Ok(&self.bytes[offset..self.offset])
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        let bytes = self.take(N, what)?;
        Ok(bytes.try_into().expect("take returns N bytes"))
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// Reads a length, a count or a dimension.
    pub(crate) fn length(&mut self, what: &'static str) -> Result<u64> {
        if self.short_lengths { Ok(self.u32(what)?.into()) } else { self.u64(what) }
    }

    /// Size of a length in bytes, which is the minimum size of a string.
    pub(crate) fn length_bytes(&self) -> usize {
        if self.short_lengths { 4 } else { 8 }
    }

    /// Reads a count of items of at least `bytes_each`, and checks that the file has room for them.
    pub(crate) fn count(&mut self, bytes_each: usize, what: &'static str) -> Result<usize> {
        let offset = self.offset;
        let count = self.length(what)?;
        let left = self.left();
        usize::try_from(count)
            .ok()
            .filter(|&n| n.checked_mul(bytes_each).is_some_and(|n_bytes| n_bytes <= left))
            .ok_or(Error::Count { what, offset, count, left })
    }

    /// Reads a string, which is preceded by its length.
    pub(crate) fn string(&mut self, what: &'static str) -> Result<&'a str> {
        let length = self.length(what)?;
        let offset = self.offset;
        let bytes = self.take_u64(length, what)?;
        str::from_utf8(bytes).map_err(|_| Error::Utf8 { what, offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_beyond_the_end() {
        let mut cursor = Cursor::new(&[1, 0, 0, 0, 2]);
        assert_eq!(cursor.u32("a number").unwrap(), 1);
        let error = cursor.u32("another number").unwrap_err().to_string();
        assert!(error.contains("another number at byte 4 takes 4 bytes, but only 1 are left"), "{error}");
        assert_eq!(cursor.take(1, "the rest").unwrap(), [2]);
        assert_eq!(cursor.take(0, "nothing").unwrap(), [0_u8; 0]);
    }

    #[test]
    fn a_count_beyond_the_file_is_refused() {
        let bytes = [3, 0, 0, 0, 0, 0, 0, 0, b'a', b'b', b'c'];
        assert_eq!(Cursor::new(&bytes).count(1, "letters").unwrap(), 3);
        assert!(Cursor::new(&bytes).count(2, "letters").is_err());
        assert_eq!(Cursor::new(&bytes).string("a word").unwrap(), "abc");
        let mut largest = Cursor::new(&[0xFF; 16]);
        assert!(matches!(largest.count(8, "letters"), Err(Error::Count { count: u64::MAX, left: 8, .. })));
    }

    #[test]
    fn version_1_has_lengths_of_32_bits() {
        let mut cursor = Cursor { short_lengths: true, ..Cursor::new(&[2, 0, 0, 0, b'h', b'i']) };
        assert_eq!(cursor.string("a word").unwrap(), "hi");
    }
}
