//! Chunks of a text that can be tokenised independently, with the same result as the whole text.

use std::ops::Range;

use crate::Result;
use crate::documents::end_without_separator;
use crate::text::{Blocks, Text};

/// Approximate size of a chunk.
const CHUNK_BYTES: usize = 1 << 20;

/// Consecutive text that is tokenised as a unit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) text: String,
    /// Position of its first byte in the whole text.
    pub(crate) offset: u64,
    /// Whether a document ended just before it without a separator. Always false unless documents are kept apart.
    pub(crate) follows_document: bool,
    /// Whether a separator followed it in the text.
    pub(crate) ends_document: bool,
}

/// Iterates over the chunks of a character range.
///
/// `boundary` returns the last position at which a string may be cut, as
/// [`Tokenizer::last_boundary`](tokenizer::Tokenizer::last_boundary) does. A text without such a position is held in
/// memory as a whole.
#[derive(Debug)]
pub(crate) struct Chunks<'a, F> {
    blocks: Blocks<'a>,
    boundary: F,
    keep_documents_apart: bool,
    separator: Option<&'a str>,
    chunk_bytes: usize,
    /// Characters left to skip.
    n_skip: u64,
    /// Characters left to read after those.
    n_left: u64,
    /// Text that was read but not yet returned.
    buffer: String,
    /// Position of `buffer` in the whole text, in bytes.
    offset: u64,
    /// The buffer size at which the next boundary is searched for.
    search_at: usize,
    is_first: bool,
    follows_document: bool,
    /// Whether only white space has followed the last separator.
    is_blank_after_separator: bool,
}

impl<'a, F: Fn(&str) -> Option<usize>> Chunks<'a, F> {
    /// Chunks of a range of characters.
    pub(crate) fn new(text: &'a Text, characters: Range<u64>, boundary: F) -> Self {
        Self {
            blocks: text.blocks(),
            boundary,
            keep_documents_apart: false,
            separator: None,
            chunk_bytes: CHUNK_BYTES,
            n_skip: characters.start,
            n_left: characters.end - characters.start,
            buffer: String::new(),
            offset: 0,
            search_at: 0,
            is_first: true,
            follows_document: false,
            is_blank_after_separator: false,
        }
    }

    /// Ends chunks at the ends of documents, and marks those that follow a document.
    pub(crate) fn keep_documents_apart(self, keep_documents_apart: bool) -> Self {
        Self { keep_documents_apart, ..self }
    }

    /// Removes each occurrence of `separator` from the text, and marks the chunk before it.
    pub(crate) fn separated_by(self, separator: Option<&'a str>) -> Self {
        Self { separator, ..self }
    }

    fn read(&mut self) -> Result<Option<Chunk>> {
        loop {
            if let Some(separator) = self.separator
                && let Some(start) = self.buffer.find(separator)
            {
                return Ok(Some(self.take_document(start, separator.len())));
            }
            if self.buffer.len() >= self.chunk_bytes.max(self.search_at) {
                let certain = match self.separator {
                    Some(separator) => end_without_separator(&self.buffer, separator),
                    None => self.buffer.len(),
                };
                match (self.boundary)(&self.buffer[..certain]) {
                    Some(end) if end > 0 => return Ok(Some(self.take(end))),
                    // Searched again only at twice the size, so that the total time is linear in the text's length.
                    _ => self.search_at = 2 * self.buffer.len(),
                }
            }
            let Some((text, starts_document)) = self.read_block()? else {
                return Ok(self.take_all());
            };
            if starts_document && self.keep_documents_apart && !self.is_first {
                // A separator at the end of a file already marks the end of its document.
                let is_ended = self.is_blank_after_separator && self.buffer.trim().is_empty();
                let ended = self.take_all();
                self.follows_document = !is_ended;
                self.is_blank_after_separator = false;
                self.buffer = text;
                if ended.is_some() {
                    return Ok(ended);
                }
            } else {
                self.buffer.push_str(&text);
            }
            self.is_first = false;
        }
    }

    /// The part of the next block within the range, and whether it begins a document.
    fn read_block(&mut self) -> Result<Option<(String, bool)>> {
        while self.n_left > 0 {
            let Some(block) = self.blocks.next().transpose()? else {
                return Ok(None);
            };
            let mut text = block.text;
            let n_characters = text.chars().count() as u64;
            if n_characters <= self.n_skip {
                self.n_skip -= n_characters;
                self.offset += text.len() as u64;
                continue;
            }
            let skipped = byte_of_character(&text, self.n_skip);
            text.drain(..skipped);
            self.offset += skipped as u64;

            let n_wanted = n_characters - std::mem::take(&mut self.n_skip);
            if n_wanted > self.n_left {
                text.truncate(byte_of_character(&text, self.n_left));
            }
            self.n_left -= n_wanted.min(self.n_left);
            return Ok(Some((text, block.starts_document && skipped == 0)));
        }
        Ok(None)
    }

    fn take_all(&mut self) -> Option<Chunk> {
        let end = self.buffer.len();
        (end > 0).then(|| self.take(end))
    }

    /// Removes the first `end` bytes of the buffer and returns them as a chunk.
    fn take(&mut self, end: usize) -> Chunk {
        let rest = self.buffer.split_off(end);
        let text = std::mem::replace(&mut self.buffer, rest);
        let offset = self.offset;
        self.offset += text.len() as u64;
        self.search_at = 0;
        self.is_blank_after_separator &= text.trim().is_empty();
        let follows_document = std::mem::take(&mut self.follows_document);
        Chunk { text, offset, follows_document, ends_document: false }
    }

    /// Returns the text before a separator that begins at `end`, and removes the separator.
    fn take_document(&mut self, end: usize, separator_bytes: usize) -> Chunk {
        let chunk = self.take(end);
        self.buffer.drain(..separator_bytes);
        self.offset += separator_bytes as u64;
        self.is_blank_after_separator = true;
        Chunk { ends_document: true, ..chunk }
    }
}

impl<F: Fn(&str) -> Option<usize>> Iterator for Chunks<'_, F> {
    type Item = Result<Chunk>;

    fn next(&mut self) -> Option<Result<Chunk>> {
        self.read().transpose()
    }
}

fn byte_of_character(text: &str, index: u64) -> usize {
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    text.char_indices().nth(index).map_or(text.len(), |(byte, _)| byte)
}

/// If a position, in characters, is within a separator, returns the end of that separator; else the position.
pub(crate) fn end_of_separator(text: &Text, position: u64, separator: &str) -> Result<u64> {
    let n_characters = separator.chars().count() as u64;
    let start = (position + 1).saturating_sub(n_characters);
    let around = Chunks::new(text, start..position + n_characters, |_| None);
    let around = around.map(|chunk| chunk.map(|chunk| chunk.text)).collect::<Result<String>>()?;
    let found =
        around.match_indices(separator).map(|(byte, _)| start + around[..byte].chars().count() as u64);
    let across = found
        .map(|begin| (begin, begin + n_characters))
        .find(|&(begin, end)| begin < position && position < end);
    Ok(across.map_or(position, |(_, end)| end))
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use tokenizer::Tokenizer;

    use super::*;
    use crate::text::Document;

    const ALL: Range<u64> = 0..u64::MAX;

    fn text(documents: &[&str]) -> Text {
        let leak = |document: &str| -> &'static str { Box::leak(document.to_owned().into_boxed_str()) };
        let documents = documents.iter().map(|document| Document::Embedded(leak(document))).collect();
        Text { name: "test".into(), documents }
    }

    #[test]
    fn a_range_is_counted_in_characters() {
        let text = text(&["αβγ", "δε"]);
        let range = |from, to| {
            let chunks = Chunks::new(&text, from..to, |text| Some(text.len()));
            chunks.map(|chunk| chunk.unwrap().text).collect::<String>()
        };
        assert_eq!(range(0, 2), "αβ");
        assert_eq!(range(2, 6), "γ\n\nδ");
        assert_eq!(range(5, 7), "δε");
        assert_eq!(range(7, 9), "");
    }

    #[test]
    fn documents_are_kept_apart_if_asked() {
        let text = text(&["one", "two", "three"]);
        let chunks = |range, apart| {
            let chunks = Chunks::new(&text, range, |_| None).keep_documents_apart(apart);
            let pairs = chunks.map(|chunk| chunk.map(|chunk| (chunk.text, chunk.follows_document)));
            pairs.collect::<Result<Vec<_>>>().unwrap()
        };
        let owned = |pairs: &[(&str, bool)]| -> Vec<_> {
            pairs.iter().map(|&(text, follows)| (text.to_owned(), follows)).collect()
        };
        assert_eq!(chunks(ALL, true), owned(&[("one\n\n", false), ("two\n\n", true), ("three", true)]));
        // A range that begins with a document has no document before it.
        assert_eq!(chunks(5..12, true), owned(&[("two\n\n", false), ("th", true)]));
        assert_eq!(chunks(ALL, false), owned(&[("one\n\ntwo\n\nthree", false)]));
    }

    #[test]
    fn separators_are_removed() {
        let chunks = |documents: &[&str], chunk_bytes| {
            let text = text(documents);
            let chunks = Chunks::new(&text, ALL, |text| text.rfind(' ')).keep_documents_apart(true);
            let chunks = Chunks { chunk_bytes, ..chunks.separated_by(Some("<|>")) };
            let facts = chunks.map(|chunk| {
                let Chunk { text, offset, follows_document, ends_document } = chunk.unwrap();
                (text, offset, follows_document, ends_document)
            });
            facts.collect::<Vec<_>>()
        };
        let owned = |facts: &[(&str, u64, bool, bool)]| -> Vec<_> {
            facts
                .iter()
                .map(|&(text, offset, follows, ends)| (text.to_owned(), offset, follows, ends))
                .collect()
        };
        let two = [("one", 0, false, true), ("two", 6, false, false)];
        assert_eq!(chunks(&["one<|>two"], 100), owned(&two));
        assert_eq!(chunks(&["<|>a<|>"], 100), owned(&[("", 0, false, true), ("a", 3, false, true)]));
        // There is one boundary between two files, with or without a separator.
        let files = [("one", 0, false, true), ("\n\n", 6, false, false), ("two", 8, false, false)];
        assert_eq!(chunks(&["one<|>", "two"], 100), owned(&files));
        let files = [("one\n\n", 0, false, false), ("two", 5, true, false)];
        assert_eq!(chunks(&["one", "two"], 100), owned(&files));
        // Text is not cut within a possible separator.
        let text = text(&["a < | > b < | > c"]);
        let chunks = Chunks::new(&text, ALL, |text| text.rfind(' ')).separated_by(Some("< | >"));
        let texts: Vec<String> =
            Chunks { chunk_bytes: 1, ..chunks }.map(|chunk| chunk.unwrap().text).collect();
        assert_eq!(texts.concat(), "a  b  c");
    }

    #[test]
    fn offsets_are_relative_to_the_whole_text() {
        let text = text(&["αβ γδ"]);
        let boundary = |text: &str| text.rfind(' ');
        let chunks = Chunks { chunk_bytes: 1, ..Chunks::new(&text, 1..5, boundary) };
        let offsets: Vec<_> = chunks.map(|chunk| chunk.unwrap()).map(|c| (c.offset, c.text)).collect();
        assert_eq!(offsets, [(2, "β".to_owned()), (4, " γδ".to_owned())]);
    }

    #[test]
    fn a_text_without_a_boundary_is_one_chunk() {
        let text = text(&["abcdefghij", "k"]);
        let chunks = Chunks { chunk_bytes: 2, ..Chunks::new(&text, ALL, |_| None) };
        let chunks: Vec<_> = chunks.map(|chunk| chunk.unwrap().text).collect();
        assert_eq!(chunks, ["abcdefghij\n\nk"]);
    }

    static TOKENIZERS: LazyLock<[Tokenizer; 3]> = LazyLock::new(|| {
        let text =
            "it's I'll 's  \n\n \t12 ab, ab; 你好。你好，\r\n ünï ''' don't\u{a0}x\u{3000}y ".repeat(20);
        [Tokenizer::gpt2(), Tokenizer::train_bpe([Ok(text)], 400, &mut |_| ()).unwrap(), Tokenizer::byte()]
    });

    /// Text with many characters that GPT-2's pre-tokenizer treats specially.
    fn awkward() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[ab'lrevsdmt]{1,4}",
            "[ \t\n\r\u{a0}\u{3000}\u{85}]{1,3}",
            "[0-9٣Ⅷ²]{1,3}",
            "[。，、！？；：]{1,2}",
            "[你好世界]{1,3}",
            "[.,!'\"-]{1,3}",
            "\\PC{1,3}",
            "[\u{300}\u{200b}\u{200d}🙂]{1,2}",
            Just("<|endoftext|>".to_owned()),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        /// Several documents, so that the buffer is filled in steps.
        #[test]
        fn tokens_do_not_depend_on_the_chunks(parts in prop::collection::vec(awkward(), 1..4), chunk_bytes in 1_usize..30) {
            let parts: Vec<_> = parts.iter().map(String::as_str).collect();
            let text = text(&parts);
            let whole_text = parts.join("\n\n");
            for tokenizer in TOKENIZERS.iter() {
                let boundary = |text: &str| tokenizer.last_boundary(text);
                let chunks = Chunks { chunk_bytes, ..Chunks::new(&text, ALL, boundary) };
                let chunks = chunks.collect::<Result<Vec<_>>>().unwrap();
                let joined: String = chunks.iter().map(|chunk| chunk.text.as_str()).collect();
                prop_assert_eq!(&joined, &whole_text);
                let ids: Vec<u32> = chunks.iter().flat_map(|chunk| tokenizer.encode(&chunk.text).unwrap()).collect();
                prop_assert_eq!(ids, tokenizer.encode(&whole_text).unwrap(), "{:?}", tokenizer);
            }
        }
    }

    #[test]
    fn a_cut_at_the_wrong_place_would_change_the_tokens() {
        let tokenizer = Tokenizer::gpt2();
        let cut = [tokenizer.encode("a  ").unwrap(), tokenizer.encode("b").unwrap()].concat();
        assert_ne!(tokenizer.encode("a  b").unwrap(), cut);
    }

    #[test]
    fn a_position_within_a_separator_moves_to_its_end() {
        let text = Text::embedded("test", "αβ<|>γ<|>");
        let moved: Vec<u64> = (0..=9).map(|at| end_of_separator(&text, at, "<|>").unwrap()).collect();
        assert_eq!(moved, [0, 1, 2, 5, 5, 5, 6, 9, 9, 9]);
    }
}
