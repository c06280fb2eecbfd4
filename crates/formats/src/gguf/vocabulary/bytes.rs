//! How a byte is written in a vocabulary, which is text.

use std::collections::HashMap;
use std::sync::LazyLock;

/// A byte as RWKV's vocabularies are written: as Python writes it.
pub(super) fn escaped(byte: u8) -> String {
    match byte {
        b'\\' => r"\\".to_owned(),
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!(r"\x{byte:02x}"),
    }
}

/// The byte that [`escaped`] writes so, in any of the ways that Python has for one.
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

/// GPT-2's character for a byte: the printable ones of Latin-1 stand for themselves, and the others are, in their
/// order, the characters from U+0100 on (`bytes_to_unicode` in GPT-2's source).
pub(super) fn spelling(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return byte.into();
    }
    let rank = (0..byte).filter(|&before| !printable(before)).count();
    ('\u{100}'..).nth(rank).expect("there are more than 256 characters from there on")
}

/// The byte that a character of GPT-2's alphabet stands for.
pub(super) fn byte(spelled: char) -> Option<u8> {
    static BYTES: LazyLock<HashMap<char, u8>> =
        LazyLock::new(|| (0..=u8::MAX).map(|byte| (spelling(byte), byte)).collect());
    BYTES.get(&spelled).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_read_as_it_is_written() {
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
