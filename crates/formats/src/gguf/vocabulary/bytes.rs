//! The spelling of bytes in vocabularies, which are text.

use std::collections::HashMap;
use std::sync::LazyLock;

/// A byte in RWKV vocabularies: Python's escape syntax.
pub(super) fn escaped(byte: u8) -> String {
    match byte {
        b'\\' => r"\\".to_owned(),
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!(r"\x{byte:02x}"),
    }
}

/// The inverse of [`escaped`]; accepts all of Python's escapes for one byte.
pub(super) fn unescaped(text: &str) -> Option<u8> {
    let escape = match text.strip_prefix('\\') {
        None => return text.as_bytes().first().copied().filter(|byte| text.len() == 1 && byte.is_ascii()),
        Some(escape) => escape,
    };
    match escape.strip_prefix('x') {
        Some(digits) if digits.len() == 2 && !digits.starts_with('+') => u8::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        None => match escape {
            "n" => Some(b'\n'),
            "r" => Some(b'\r'),
            "t" => Some(b'\t'),
            "\\" => Some(b'\\'),
            _ => None,
        },
    }
}

/// GPT-2's character for a byte: a printable byte of Latin-1 stands for itself; the others are, in order, the
/// characters from U+0100 (`bytes_to_unicode` in GPT-2's source).
pub(super) fn spelling(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return byte.into();
    }
    let rank = (0..byte).filter(|&before| !printable(before)).count();
    ('\u{100}'..).nth(rank).expect("there are more than 256 characters from U+0100")
}

/// The byte of a character of GPT-2's alphabet.
pub(super) fn byte(spelled: char) -> Option<u8> {
    static BYTES: LazyLock<HashMap<char, u8>> =
        LazyLock::new(|| (0..=u8::MAX).map(|byte| (spelling(byte), byte)).collect());
    BYTES.get(&spelled).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_survives_the_round_trip() {
        for value in 0..=u8::MAX {
            assert_eq!(unescaped(&escaped(value)), Some(value));
            assert_eq!(byte(spelling(value)), Some(value));
        }
        assert_eq!(unescaped(r"\n"), Some(b'\n'));
        for text in ["", r"\", r"\x4", r"\x041", r"\x+4", r"\q", "ab", "é"] {
            assert_eq!(unescaped(text), None, "{text}");
        }
        assert_eq!(byte(' '), None);
    }
}
