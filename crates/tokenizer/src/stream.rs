//! Streaming decoding.

use crate::Tokenizer;

/// Decodes ids one by one and returns each character when it is complete.
///
/// The concatenated output equals [`Tokenizer::decode`] of all ids.
///
/// ```
/// let tokenizer = tokenizer::Tokenizer::byte();
/// let mut stream = tokenizer.decode_stream();
/// assert_eq!(stream.push(0xC3), "");
/// assert_eq!(stream.push(0xA9), "é");
/// assert_eq!(stream.finish(), "");
/// ```
#[derive(Debug)]
pub struct DecodeStream<'a> {
    tokenizer: &'a Tokenizer,
    pending: Pending,
}

/// How many previous ids are decoded again if decoding depends on them.
const CONTEXT: usize = 8;

#[derive(Debug)]
enum Pending {
    /// The first bytes of a character, and whether to strip a space before them.
    Bytes { bytes: Vec<u8>, strips_space: bool },
    /// If decoding depends on previous ids: the first `n_context` ids are such context. `returned` is the text of `ids`
    /// that was already returned.
    Ids { ids: Vec<u32>, n_context: usize, returned: String },
}

impl Tokenizer {
    /// Starts a stream that decodes ids one by one.
    pub fn decode_stream(&self) -> DecodeStream<'_> {
        DecodeStream::new(self)
    }

    /// Starts a stream for the ids after `ids`, whose text was already returned.
    ///
    /// This matters because some decoders strip a space at the start of a text only.
    pub fn decode_stream_after(&self, ids: &[u32]) -> DecodeStream<'_> {
        DecodeStream::after(self, ids)
    }
}

impl<'a> DecodeStream<'a> {
    fn new(tokenizer: &'a Tokenizer) -> Self {
        let pending = if tokenizer.joins_bytes() {
            Pending::Bytes { bytes: Vec::new(), strips_space: tokenizer.strips_space() }
        } else {
            Pending::Ids { ids: Vec::new(), n_context: 0, returned: String::new() }
        };
        Self { tokenizer, pending }
    }

    fn after(tokenizer: &'a Tokenizer, ids: &[u32]) -> Self {
        let mut stream = Self::new(tokenizer);
        let has_text = ids.iter().any(|&id| !tokenizer.is_special(id));
        match &mut stream.pending {
            Pending::Bytes { strips_space, .. } => *strips_space &= !has_text,
            Pending::Ids { ids: context, n_context, returned } => {
                *context = ids[ids.len().saturating_sub(CONTEXT)..].to_vec();
                *n_context = context.len();
                *returned = tokenizer.decode(context);
            }
        }
        stream
    }

    /// The text that `id` completes; empty if a character is still incomplete.
    pub fn push(&mut self, id: u32) -> String {
        match &mut self.pending {
            Pending::Bytes { bytes, strips_space } => {
                let new = self.tokenizer.bytes_or_replacement(id);
                let new = if *strips_space { new.strip_prefix(b" ").unwrap_or(new) } else { new };
                *strips_space &= self.tokenizer.bytes_or_replacement(id).is_empty();
                bytes.extend_from_slice(new);
                take_whole_characters(bytes)
            }
            Pending::Ids { ids, n_context, returned } => {
                ids.push(id);
                let text = self.tokenizer.decode(ids);
                // A character has at most four bytes, so after four ids it stays incomplete.
                if text.ends_with('\u{FFFD}') && ids.len() - *n_context < 4 {
                    return String::new();
                }
                let new = text.strip_prefix(returned.as_str()).unwrap_or_default().to_owned();
                if !new.is_empty() {
                    ids.drain(..*n_context);
                    *n_context = ids.len();
                    *returned = self.tokenizer.decode(ids);
                }
                new
            }
        }
    }

    /// The rest: U+FFFD for an incomplete character at the end.
    pub fn finish(self) -> String {
        match self.pending {
            Pending::Bytes { bytes, .. } => String::from_utf8_lossy(&bytes).into_owned(),
            Pending::Ids { ids, returned, .. } => {
                let text = self.tokenizer.decode(&ids);
                text.strip_prefix(returned.as_str()).unwrap_or_default().to_owned()
            }
        }
    }
}

/// Removes the complete characters from `bytes` and returns them, with U+FFFD for invalid UTF-8.
fn take_whole_characters(bytes: &mut Vec<u8>) -> String {
    let n_whole = bytes.utf8_chunks().last().map_or(0, |chunk| {
        // An invalid sequence at the end may be an incomplete character.
        let n_invalid = chunk.invalid().len();
        let is_incomplete =
            std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none());
        if is_incomplete { bytes.len() - n_invalid } else { bytes.len() }
    });
    let rest = bytes.split_off(n_whole);
    let whole = std::mem::replace(bytes, rest);
    String::from_utf8_lossy(&whole).into_owned()
}
