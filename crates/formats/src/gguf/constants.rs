//! The numbers of the format that reader and writer share.

use crate::gguf::{Array, Error, Result, Value};

/// What a file begins with.
pub(crate) const MAGIC: [u8; 4] = *b"GGUF";

/// The version that is written; 1 and 2 are read too.
pub(crate) const VERSION: u32 = 3;

/// The key whose value, a power of two, all tensors begin at multiples of.
pub(crate) const ALIGNMENT_KEY: &str = "general.alignment";

/// The alignment of a file that does not say.
pub(crate) const DEFAULT_ALIGNMENT: usize = 32;

/// Most bytes in a key.
pub(crate) const KEY_LENGTH_MAX: usize = 65_535;

/// Most bytes in a tensor's name. The format has 64, and one of them is C's end of a string in ggml.
pub(crate) const TENSOR_NAME_LENGTH_MAX: usize = 63;

/// Most dimensions of a tensor, as in ggml.
pub(crate) const N_DIMS_MAX: usize = 4;

/// Most arrays within one another. The format has no limit, ggml reads no more than one.
pub(crate) const ARRAY_DEPTH_MAX: usize = 4;

/// The alignment that the metadata asks for.
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

/// The next multiple of `alignment` from `offset` on.
pub(crate) fn align(offset: usize, alignment: usize) -> Option<usize> {
    offset.checked_next_multiple_of(alignment)
}

/// How many arrays lie within one another in `array`, itself among them.
pub(crate) fn depth(array: &Array) -> usize {
    match array {
        Array::Array(arrays) => 1 + arrays.iter().map(depth).max().unwrap_or(0),
        _ => 1,
    }
}
