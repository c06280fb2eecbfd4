//! What must be known of a whole text before its first token is written: sizes, checksum, characters.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::text::Text;
use crate::{Error, OnProgress, Phase, Progress, Result};

/// A text, read once from end to end.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) size_bytes: u64,
    pub(crate) n_characters: u64,
    pub(crate) sha256: String,
    pub(crate) alphabet: BTreeSet<char>,
}

/// Reads a text. Fails if it is not UTF-8 throughout, or empty.
pub(crate) fn scan(text: &Text, on_progress: OnProgress<'_>) -> Result<Scan> {
    let total = Some(text.size_bytes());
    let (mut size_bytes, mut n_characters) = (0, 0);
    let mut hasher = Sha256::new();
    let mut alphabet = Alphabet::new();
    for block in text.blocks() {
        let block = block?.text;
        hasher.update(&block);
        size_bytes += block.len() as u64;
        n_characters += block.chars().count() as u64;
        alphabet.add(&block);
        on_progress(Progress { phase: Phase::Read, done: size_bytes, total });
    }
    if n_characters == 0 {
        return Err(Error::Empty { text: text.name.clone() });
    }
    Ok(Scan { size_bytes, n_characters, sha256: hex(&hasher.finalize()), alphabet: alphabet.characters() })
}

/// A set of characters: one bit for each there could be, 136 KiB in all.
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

/// The SHA-256 of a file. `on_bytes` is told how many more bytes were read.
pub(crate) fn sha256_of_file(path: &Path, mut on_bytes: impl FnMut(u64)) -> Result<String> {
    let read = |source| Error::read(path, source);
    let mut file = File::open(path).map_err(read)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n_read = file.read(&mut buffer).map_err(read)?;
        if n_read == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..n_read]);
        on_bytes(n_read as u64);
    }
}

/// The SHA-256 of some bytes, in hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_counted_and_characters_collected() {
        let scan = scan(&Text::embedded("test", "βa\u{10ffff}aβ\0"), &|_| ()).unwrap();
        assert_eq!((scan.size_bytes, scan.n_characters), (11, 6));
        assert_eq!(scan.alphabet.into_iter().collect::<String>(), "\0aβ\u{10ffff}");
        assert_eq!(scan.sha256, sha256_hex("βa\u{10ffff}aβ\0".as_bytes()));
    }
}
