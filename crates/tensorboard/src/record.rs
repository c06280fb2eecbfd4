//! The TFRecord format: byte records, each with its length and two checksums.
//!
//! ```text
//! u64  length; all values are little-endian
//! u32  masked checksum of the eight bytes of the length
//! [u8] payload
//! u32  masked checksum of the payload
//! ```

use std::io::{self, Write};

use crc::{CRC_32_ISCSI, Crc};

const CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// The result of reading a record at the start of a byte slice.
#[derive(Debug, PartialEq)]
pub(crate) enum Record<'a> {
    /// A valid record, and the bytes after it.
    Whole { payload: &'a [u8], rest: &'a [u8] },
    /// The bytes end before the record does, or are empty.
    Torn,
    /// A checksum does not match.
    Damaged,
}

pub(crate) fn write_record(file: &mut impl Write, payload: &[u8]) -> io::Result<()> {
    let length = (payload.len() as u64).to_le_bytes();
    file.write_all(&length)?;
    file.write_all(&masked_checksum(&length))?;
    file.write_all(payload)?;
    file.write_all(&masked_checksum(payload))
}

pub(crate) fn read_record(bytes: &[u8]) -> Record<'_> {
    let Some((length, checksum, rest)) = split_checked(bytes, 8) else { return Record::Torn };
    if masked_checksum(length) != checksum {
        return Record::Damaged;
    }
    let length = length.iter().rev().fold(0, |length, &byte| length << 8 | u64::from(byte));
    // A length beyond usize is longer than the file.
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let Some((payload, checksum, rest)) = split_checked(rest, length) else { return Record::Torn };
    if masked_checksum(payload) != checksum {
        return Record::Damaged;
    }
    Record::Whole { payload, rest }
}

/// Splits off `length` bytes and the checksum after them.
fn split_checked(bytes: &[u8], length: usize) -> Option<(&[u8], [u8; 4], &[u8])> {
    let (data, rest) = bytes.split_at_checked(length)?;
    let (checksum, rest) = rest.split_first_chunk()?;
    Some((data, *checksum, rest))
}

/// CRC-32C, masked because the CRC of bytes that contain their own CRC is weak:
/// <https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details>.
fn masked_checksum(bytes: &[u8]) -> [u8; 4] {
    CHECKSUM.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_record(&mut bytes, payload).unwrap();
        bytes
    }

    proptest! {
        #[test]
        fn a_record_is_read_back(payload: Vec<u8>, behind: Vec<u8>) {
            let bytes = [record(&payload), behind.clone()].concat();
            prop_assert_eq!(read_record(&bytes), Record::Whole { payload: &payload, rest: &behind });
        }

        #[test]
        fn a_truncated_record_is_torn(payload: Vec<u8>, cut: prop::sample::Index) {
            let bytes = record(&payload);
            prop_assert_eq!(read_record(&bytes[..cut.index(bytes.len())]), Record::Torn);
        }

        #[test]
        fn a_changed_bit_is_detected(payload: Vec<u8>, index: prop::sample::Index, bit in 0..8u8) {
            let mut bytes = record(&payload);
            let index = index.index(bytes.len());
            bytes[index] ^= 1u8 << bit;
            prop_assert_eq!(read_record(&bytes), Record::Damaged);
        }
    }

    /// The standard check value of CRC-32C.
    #[test]
    fn the_checksum_is_crc_32c() {
        assert_eq!(CHECKSUM.checksum(b"123456789"), 0xe306_9283);
    }
}
