//! Constants of the format, shared by reader and writer.

use crate::gguf::{Array, Error, Result, Value};

/// The first bytes of a file.
pub(crate) const MAGIC: [u8; 4] = *b"GGUF";

/// The written version; 1 and 2 are only read.
pub(crate) const VERSION: u32 = 3;

/// The key of the alignment of all tensors in bytes, a power of two.
pub(crate) const ALIGNMENT_KEY: &str = "general.alignment";

/// The alignment of a file without [`ALIGNMENT_KEY`].
pub(crate) const DEFAULT_ALIGNMENT: usize = 32;

/// Maximum length of a key, in bytes.
pub(crate) const KEY_LENGTH_MAX: usize = 65_535;

/// Maximum length of a tensor name, in bytes. The format allows 64, of which ggml needs one for C's terminating zero.
pub(crate) const TENSOR_NAME_LENGTH_MAX: usize = 63;

/// Maximum number of dimensions, as in ggml.
pub(crate) const N_DIMS_MAX: usize = 4;

/// Maximum nesting of arrays. The format has no limit; ggml reads only one level.
pub(crate) const ARRAY_DEPTH_MAX: usize = 4;

/// The alignment of the tensors, from the metadata.
pub(crate) fn alignment<'a>(metadata: impl Iterator<Item = (&'a str, &'a Value)>) -> Result<usize> {
    let Some((_, value)) = { metadata }.find(|&(key, _)| key == ALIGNMENT_KEY) else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    match value {
        Value::U32(alignment) if alignment.is_power_of_two() => {
            usize::try_from(*alignment).map_err(|_| Error::Alignment { value: value.to_string() })
        }
        _ => Err(Error::Alignment { value: value.to_string() }),
    }
}

/// Rounds `offset` up to a multiple of `alignment`.
pub(crate) fn align(offset: usize, alignment: usize) -> Option<usize> {
    offset.checked_next_multiple_of(alignment)
}

/// The nesting depth of `array`; 1 for a flat one.
pub(crate) fn depth(array: &Array) -> usize {
    match array {
        Array::Array(arrays) => 1 + arrays.iter().map(depth).max().unwrap_or(0),
        _ => 1,
    }
}
