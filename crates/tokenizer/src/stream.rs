//! Decoding as the ids arrive.

use crate::Tokenizer;

/// Decodes ids one by one and gives out each character as soon as it is whole.
///
/// All that comes out, joined, is [`Tokenizer::decode`] of all the ids.
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

/// How many of the ids before the first are decoded with it, where decoding depends on them.
const CONTEXT: usize = 8;

#[derive(Debug)]
enum Pending {
    /// The first bytes of a character, and whether a space is to be left out before them.
    Bytes { bytes: Vec<u8>, strips_space: bool },
    /// Where decoding depends on the ids before: some of these, and how much of their text is out.
    Ids { ids: Vec<u32>, n_context: usize, text_out: String },
}

impl Tokenizer {
    /// Decodes ids one by one, each character as soon as it is whole.
    pub fn decode_stream(&self) -> DecodeStream<'_> {
        DecodeStream::new(self)
    }

    /// As [`decode_stream`](Self::decode_stream), of ids that follow `ids`, whose text is out already.
    ///
    /// Some decoders take a space off the beginning of a text, and not off what follows.
    pub fn decode_stream_after(&self, ids: &[u32]) -> DecodeStream<'_> {
        DecodeStream::after(self, ids)
    }
}

impl<'a> DecodeStream<'a> {
    fn new(tokenizer: &'a Tokenizer) -> Self {
        let pending = if tokenizer.joins_bytes() {
            Pending::Bytes { bytes: Vec::new(), strips_space: tokenizer.strips_space() }
        } else {
            Pending::Ids { ids: Vec::new(), n_context: 0, text_out: String::new() }
        };
        Self { tokenizer, pending }
    }

    /// A stream of what follows `ids`.
    fn after(tokenizer: &'a Tokenizer, ids: &[u32]) -> Self {
        let mut stream = Self::new(tokenizer);
        let has_text = ids.iter().any(|&id| !tokenizer.is_special(id));
        match &mut stream.pending {
            Pending::Bytes { strips_space, .. } => *strips_space &= !has_text,
            Pending::Ids { ids: context, n_context, text_out } => {
                *context = ids[ids.len().saturating_sub(CONTEXT)..].to_vec();
                *n_context = context.len();
                *text_out = tokenizer.decode(context);
            }
        }
        stream
    }

    /// The text that `id` completes; empty while a character is not whole.
    pub fn push(&mut self, id: u32) -> String {
        match &mut self.pending {
            Pending::Bytes { bytes, strips_space } => {
                let new = self.tokenizer.bytes_or_replacement(id);
                let new = if *strips_space { new.strip_prefix(b" ").unwrap_or(new) } else { new };
                *strips_space &= self.tokenizer.bytes_or_replacement(id).is_empty();
                bytes.extend_from_slice(new);
                take_whole_characters(bytes)
            }
            Pending::Ids { ids, n_context, text_out } => {
                ids.push(id);
                let text = self.tokenizer.decode(ids);
                // A character is at most four bytes, so after four ids it is not going to become whole.
                if text.ends_with('\u{FFFD}') && ids.len() - *n_context < 4 {
                    return String::new();
                }
                let new = text.strip_prefix(text_out.as_str()).unwrap_or_default().to_owned();
                if !new.is_empty() {
                    ids.drain(..*n_context);
                    *n_context = ids.len();
                    *text_out = self.tokenizer.decode(ids);
                }
                new
            }
        }
    }

    /// What is left: the start of a character that never became whole, as U+FFFD.
    pub fn finish(self) -> String {
        match self.pending {
            Pending::Bytes { bytes, .. } => String::from_utf8_lossy(&bytes).into_owned(),
            Pending::Ids { ids, text_out, .. } => {
                let text = self.tokenizer.decode(&ids);
                text.strip_prefix(text_out.as_str()).unwrap_or_default().to_owned()
            }
        }
    }
}

/// Takes all but the start of a character off `bytes`, with U+FFFD for what is not UTF-8.
fn take_whole_characters(bytes: &mut Vec<u8>) -> String {
    let n_whole = bytes.utf8_chunks().last().map_or(0, |chunk| {
        // Only at the end of the bytes can an invalid sequence still become a character.
        let n_invalid = chunk.invalid().len();
        let unfinished = std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none());
        if unfinished { bytes.len() - n_invalid } else { bytes.len() }
    });
    let rest = bytes.split_off(n_whole);
    let whole = std::mem::replace(bytes, rest);
    String::from_utf8_lossy(&whole).into_owned()
}
