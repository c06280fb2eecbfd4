//! Scans a whole text before tokenisation: sizes, checksum, alphabet and documents.

use std::collections::BTreeSet;

use ::fs::hex;
use sha2::{Digest, Sha256};

use crate::documents::{Counter, Documents};
use crate::text::Text;
use crate::{Error, OnProgress, Phase, Progress, Result};

/// The properties of a text, found by reading it once.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) size_bytes: u64,
    pub(crate) n_characters: u64,
    pub(crate) sha256: String,
    pub(crate) alphabet: BTreeSet<char>,
    /// The documents, if a separator was given.
    pub(crate) documents: Option<Documents>,
    /// Whether a file begins with a line that is a JSON object.
    pub(crate) has_json_lines: bool,
}

/// Scans a text. Fails if a file is not text, or if the whole text is empty.
pub(crate) fn scan(text: &Text, separator: Option<&str>, on_progress: OnProgress<'_>) -> Result<Scan> {
    let total = Some(text.size_bytes());
    let (mut size_bytes, mut n_characters) = (0, 0);
    let mut hasher = Sha256::new();
    let mut alphabet = Alphabet::new();
    let mut documents = separator.map(Counter::new);
    let mut has_json_lines = false;
    text.read(|block| {
        if let Some(documents) = &mut documents {
            documents.add(block);
        }
        has_json_lines |= block.starts_document && begins_with_json(&block.text);
        let block = &block.text;
        hasher.update(block);
        size_bytes += block.len() as u64;
        n_characters += block.chars().count() as u64;
        alphabet.add(block);
        on_progress(Progress { phase: Phase::Read, done: size_bytes, total });
    })?;
    if n_characters == 0 {
        return Err(Error::Empty { text: text.name.clone() });
    }
    Ok(Scan {
        size_bytes,
        n_characters,
        sha256: hex(&hasher.finalize()),
        alphabet: alphabet.characters(),
        documents: documents.map(Counter::finish),
        has_json_lines,
    })
}

/// Whether the first line is a JSON object, as in JSON Lines.
fn begins_with_json(text: &str) -> bool {
    let line = text.trim_start().lines().next().unwrap_or_default();
    line.starts_with('{') && serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line).is_ok()
}

/// A set of characters, as one bit for each code point: 136 KiB.
struct Alphabet(Vec<u64>);

impl Alphabet {
    fn new() -> Self {
        Self(vec![0; (u32::from(char::MAX) as usize + 1).div_ceil(64)])
    }

    fn add(&mut self, text: &str) {
        for character in text.chars() {
            let number = u32::from(character) as usize;
            self.0[number / 64] |= 1 << (number % 64);
        }
    }

    fn characters(&self) -> BTreeSet<char> {
        let has = |&character: &char| {
            let number = u32::from(character) as usize;
            self.0[number / 64] >> (number % 64) & 1 == 1
        };
        ('\0'..=char::MAX).filter(has).collect()
    }
}

#[cfg(test)]
mod tests {
    use ::fs::sha256_hex;

    use super::*;

    #[test]
    fn json_lines_are_detected() {
        for (text, expected) in [
            ("{\"id\": 3, \"text\": \"a\"}\n{\"id\": 4}\n", true),
            ("\n {\"text\": \"only\"}", true),
            ("{ Exeunt }\n", false),
            ("{\n  \"text\": \"a file of configuration\"\n}", false),
            ("To be\n{\"text\": 1}\n", false),
        ] {
            let scan = scan(&Text::embedded("test", text), None, &|_| ()).unwrap();
            assert_eq!(scan.has_json_lines, expected, "{text}");
        }
    }

    #[test]
    fn sizes_are_counted_and_characters_collected() {
        let scan = scan(&Text::embedded("test", "βa\u{10ffff}aβ\0"), None, &|_| ()).unwrap();
        assert_eq!((scan.size_bytes, scan.n_characters), (11, 6));
        assert_eq!(scan.alphabet.into_iter().collect::<String>(), "\0aβ\u{10ffff}");
        assert_eq!(scan.sha256, sha256_hex("βa\u{10ffff}aβ\0".as_bytes()));
    }
}
