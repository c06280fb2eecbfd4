//! How a byte is written in a vocabulary, which is text.

/// A byte as RWKV's vocabularies are written: as Python writes it.
pub(super) fn escaped(byte: u8) -> String {
    match byte {
        b'\\' => r"\\".to_owned(),
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!(r"\x{byte:02x}"),
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
