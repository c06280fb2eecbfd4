//! Counts the documents of a text, which are divided by a separator such as `<|endoftext|>`.

use serde::{Deserialize, Serialize};

use crate::text::Block;

/// The document separator of GPT-2's corpora and many others.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// The separators and documents of a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Documents {
    pub separator: String,
    pub n_separators: u64,
    /// Documents that are not blank. A document ends at a separator or at the end of a file.
    pub n_documents: u64,
    /// Whether separators were encoded as `<|endoftext|>`. False if the tokenizer lacks that token or no separator was
    /// requested; then they are plain text.
    pub are_tokens: bool,
}

/// Counts documents incrementally, block by block.
#[derive(Debug)]
pub(crate) struct Counter<'a> {
    separator: &'a str,
    /// Text that may begin a separator.
    rest: String,
    n_separators: u64,
    n_documents: u64,
    is_blank: bool,
}

impl<'a> Counter<'a> {
    pub(crate) fn new(separator: &'a str) -> Self {
        Self { separator, rest: String::new(), n_separators: 0, n_documents: 0, is_blank: true }
    }

    pub(crate) fn add(&mut self, block: &Block) {
        if block.starts_document {
            self.end_file();
        }
        self.rest.push_str(&block.text);
        while let Some(start) = self.rest.find(self.separator) {
            self.is_blank &= self.rest[..start].trim().is_empty();
            self.rest.drain(..start + self.separator.len());
            self.n_separators += 1;
            self.end_document();
        }
        let certain = end_without_separator(&self.rest, self.separator);
        self.is_blank &= self.rest[..certain].trim().is_empty();
        self.rest.drain(..certain);
    }

    /// Returns the counts, with `are_tokens` false.
    pub(crate) fn finish(mut self) -> Documents {
        self.end_file();
        let Self { separator, n_separators, n_documents, .. } = self;
        Documents { separator: separator.to_owned(), n_separators, n_documents, are_tokens: false }
    }

    fn end_file(&mut self) {
        self.is_blank &= std::mem::take(&mut self.rest).trim().is_empty();
        self.end_document();
    }

    fn end_document(&mut self) {
        self.n_documents += u64::from(!self.is_blank);
        self.is_blank = true;
    }
}

/// The length of the part of `text` that cannot be the beginning of a separator. `text` must not contain a whole one.
pub(crate) fn end_without_separator(text: &str, separator: &str) -> usize {
    text.floor_char_boundary((text.len() + 1).saturating_sub(separator.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count(blocks: &[(&str, bool)]) -> (u64, u64) {
        let mut counter = Counter::new("<|>");
        for &(text, starts_document) in blocks {
            counter.add(&Block { text: text.to_owned(), starts_document });
        }
        let Documents { n_separators, n_documents, .. } = counter.finish();
        (n_separators, n_documents)
    }

    #[test]
    fn blank_documents_are_not_counted() {
        assert_eq!(count(&[("one<|>two", true)]), (1, 2));
        assert_eq!(count(&[("one<|>two<|>\n", true)]), (2, 2), "nothing but white space follows");
        assert_eq!(count(&[("<|><|> <|>", true)]), (3, 0));
        assert_eq!(count(&[("one<", true), ("|", false), (">two", false)]), (1, 2), "across blocks");
        assert_eq!(count(&[("one<|", true), (">two", true)]), (0, 2), "not across files");
        assert_eq!(count(&[("one<|>", true), ("\n\n", false), ("two", true)]), (1, 2));
    }

    proptest! {
        #[test]
        fn documents_do_not_depend_on_the_blocks(text in "[a<|> ]{0,30}", cuts in prop::collection::vec(0..30_usize, 0..6)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let blocks: Vec<(&str, bool)> = cuts.windows(2).map(|cut| (&text[cut[0]..cut[1]], cut[0] == 0 && cut[1] > 0)).collect();
            let expected = text.split("<|>").filter(|document| !document.trim().is_empty()).count();
            prop_assert_eq!(count(&blocks), (text.matches("<|>").count() as u64, expected as u64));
        }
    }
}
