//! Encoding with a byte-level BPE: the ids of the `tokenizers` pipeline, but faster.
//!
//! The library does the merging. This code skips its tracking of offsets and merges each repeated word only once.

use std::collections::HashMap;
use std::ops::Range;

use tokenizers::Model;

use crate::byte_alphabet::spell;
use crate::long_pieces::MergeTable;
use crate::pre_tokenizer::pieces;
use crate::{Error, Result};

/// The longest piece whose ids are cached; longer pieces rarely repeat.
const MAX_CACHED_BYTES: usize = 64;

/// The shortest piece that is encoded with a [`MergeTable`]: the library needs tens of bytes of memory for each byte.
const LONG_BYTES: usize = 1 << 16;

/// The ids of `text` by `model`, whose tokens are spelled in GPT-2's byte alphabet. `table` returns the same model as a
/// table; it is only called for long pieces.
pub(crate) fn encode<'t>(
    model: &impl Model,
    table: impl Fn() -> Option<&'t MergeTable>,
    text: &str,
) -> Result<Vec<u32>> {
    let mut ids = Vec::with_capacity(text.len() / 3);
    // The range in `ids` of each piece.
    let mut cached: HashMap<&str, Range<usize>> = HashMap::new();
    for piece in pieces(text) {
        if let Some(range) = cached.get(piece) {
            ids.extend_from_within(range.clone());
            continue;
        }
        let start = ids.len();
        if piece.len() >= LONG_BYTES
            && let Some(long) = table().and_then(|table| table.encode(piece))
        {
            ids.extend(long);
            continue;
        }
        let tokens = model.tokenize(&spell(piece)).map_err(Error::Encode)?;
        ids.extend(tokens.into_iter().map(|token| token.id));
        if piece.len() <= MAX_CACHED_BYTES {
            cached.insert(piece, start..ids.len());
        }
    }
    Ok(ids)
}
