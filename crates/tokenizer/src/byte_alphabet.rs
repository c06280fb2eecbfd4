//! GPT-2's alphabet: one printable character for each byte.
//!
//! A byte-level BPE stores tokens as text although they are bytes, and not always whole characters. A printable byte of
//! Latin-1 stands for itself; the other bytes are, in order, the characters from U+0100 (`bytes_to_unicode` in GPT-2's
//! source).

use std::collections::HashMap;
use std::sync::LazyLock;

/// The character of each byte, by its value.
pub(crate) static CHARS: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut beyond_latin_1 = '\u{100}'..;
    std::array::from_fn(|byte| {
        let latin_1 = u8::try_from(byte).map(char::from).expect("the array has 256 elements");
        match latin_1 {
            '!'..='~' | '¡'..='¬' | '®'..='ÿ' => latin_1,
            _ => beyond_latin_1.next().expect("there are more than 256 characters"),
        }
    })
});

static BYTES: LazyLock<HashMap<char, u8>> = LazyLock::new(|| CHARS.iter().copied().zip(0..=255).collect());

/// Spells the bytes of `text` in GPT-2's alphabet.
pub(crate) fn spell(text: impl AsRef<[u8]>) -> String {
    text.as_ref().iter().map(|&byte| CHARS[usize::from(byte)]).collect()
}

/// All bytes, ordered by their characters: the order of their ids in GPT-2's vocabulary.
pub(crate) fn sorted_bytes() -> [u8; 256] {
    let mut bytes = std::array::from_fn(|byte| u8::try_from(byte).expect("the array has 256 elements"));
    bytes.sort_unstable_by_key(|&byte| CHARS[usize::from(byte)]);
    bytes
}

/// The bytes of a token, or `None` if it has a character outside the alphabet.
pub(crate) fn bytes(token: &str) -> Option<Vec<u8>> {
    token.chars().map(|character| BYTES.get(&character).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character() {
        let token: String = CHARS.iter().collect();
        assert_eq!(bytes(&token).unwrap(), (0..=255).collect::<Vec<u8>>());
        assert!(CHARS.iter().all(|character| !character.is_whitespace() && !character.is_control()));
    }

    #[test]
    fn spelling_matches_gpt2() {
        assert_eq!(spell(" the\né"), "ĠtheĊÃ©");
        assert_eq!(bytes("ĠtheĊÃ©").unwrap(), " the\né".as_bytes());
        assert_eq!(bytes("the "), None);
    }
}
