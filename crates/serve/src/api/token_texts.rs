//! Texts of single tokens, as clients see them.

use std::{collections::HashMap, fmt::Write as _};

use tokenizer::Tokenizer;

/// Starts the spelling of a token that is not UTF-8, as OpenAI's.
const BYTES: &str = "bytes:";
/// Starts the spelling of a token without a text of its own.
const ID: &str = "token_id:";

/// Spells the tokens of a vocabulary.
#[derive(Debug)]
pub(crate) struct TokenTexts {
    tokenizer: Tokenizer,
    /// By id: whether no lower id has the same bytes.
    is_first: Vec<bool>,
}

impl TokenTexts {
    pub(crate) fn new(tokenizer: &Tokenizer) -> Self {
        let mut first_ids = HashMap::new();
        let ids = 0..u32::try_from(tokenizer.vocab_size()).expect("an id has 32 bits");
        let is_first = ids.map(|id| {
            tokenizer.token_bytes(id).is_some_and(|bytes| *first_ids.entry(bytes).or_insert(id) == id)
        });
        Self { is_first: is_first.collect(), tokenizer: tokenizer.clone() }
    }

    /// A spelling that no other token has: its text, `bytes:\xNN…` if that is not UTF-8, and `token_id:N` if another
    /// token has the same.
    pub(crate) fn key(&self, id: u32) -> String {
        let is_first = self.is_first.get(id as usize).copied().unwrap_or(false);
        match self.tokenizer.token_bytes(id).filter(|_| is_first).map(|bytes| (str::from_utf8(bytes), bytes))
        {
            Some((Ok(text), _)) if !text.starts_with(BYTES) && !text.starts_with(ID) => text.to_owned(),
            Some((Err(_), bytes)) => bytes.iter().fold(BYTES.to_owned(), |mut key, byte| {
                write!(key, "\\x{byte:02x}").expect("a string can be written to");
                key
            }),
            _ => format!("{ID}{id}"),
        }
    }

    /// The bytes of a token; none for an unused id.
    pub(crate) fn bytes(&self, id: u32) -> &[u8] {
        self.tokenizer.token_bytes(id).unwrap_or_default()
    }

    /// The text of a token, with U+FFFD for bytes that are not UTF-8.
    pub(crate) fn text(&self, id: u32) -> String {
        String::from_utf8_lossy(self.bytes(id)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_token_has_its_own_key() {
        for tokenizer in [Tokenizer::byte(), Tokenizer::gpt2()] {
            let texts = TokenTexts::new(&tokenizer);
            let n_tokens = u32::try_from(tokenizer.vocab_size()).unwrap();
            let keys: HashSet<String> = (0..n_tokens).map(|id| texts.key(id)).collect();
            assert_eq!(keys.len(), tokenizer.vocab_size());
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_spelled_in_hexadecimal() {
        let texts = TokenTexts::new(&Tokenizer::byte());
        assert_eq!((texts.key(u32::from(b'a')), texts.text(u32::from(b'a'))), ("a".into(), "a".into()));
        assert_eq!((texts.key(0xe9), texts.text(0xe9)), (r"bytes:\xe9".into(), "\u{FFFD}".into()));
        assert_eq!(texts.bytes(0xe9), [0xe9]);
        assert_eq!((texts.key(256), texts.text(256)), ("token_id:256".into(), String::new()));
    }
}
