//! Encoding with a byte-level BPE, faster than the general pipeline and to the same ids.
//!
//! The merges are the `tokenizers` library's. What is saved is its bookkeeping of offsets, and the merging
//! of words that the same text had before.

use std::collections::HashMap;
use std::ops::Range;

use tokenizers::Model;

use crate::byte_alphabet::spell;
use crate::long_pieces::MergeTable;
use crate::pre_tokenizer::pieces;
use crate::{Error, Result};

/// Longer pieces hardly ever come twice.
const MAX_REMEMBERED_BYTES: usize = 64;

/// Pieces that the library would take tens of bytes for each byte of.
const LONG_BYTES: usize = 1 << 16;

/// The ids of `text` by `model`, whose tokens are spelled in GPT-2's byte alphabet. `table` is the same model, asked for where
/// a piece is long.
pub(crate) fn encode<'t>(
    model: &impl Model,
    table: impl Fn() -> Option<&'t MergeTable>,
    text: &str,
) -> Result<Vec<u32>> {
    let mut ids = Vec::with_capacity(text.len() / 3);
    // Where the ids of a piece stand in `ids`.
    let mut remembered: HashMap<&str, Range<usize>> = HashMap::new();
    for piece in pieces(text) {
        if let Some(range) = remembered.get(piece) {
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
        if piece.len() <= MAX_REMEMBERED_BYTES {
            remembered.insert(piece, start..ids.len());
        }
    }
    Ok(ids)
}
