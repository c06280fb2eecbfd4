//! Detects text, its encoding and other file formats from the first bytes of a file.

use std::path::Path;
use std::str;

use infer::MatcherType;

/// Bytes inspected; Git inspects the same number to distinguish binary files from text.
pub(crate) const HEAD_BYTES: usize = 8000;

/// The beginning of a Git LFS pointer, the text in place of a large file in a clone without Git LFS.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// The extension used for Git LFS pointers, which have none of their own.
pub(crate) const LFS: &str = "git-lfs";

/// Data with more than one control character in this many characters is not text.
const MIN_CHARACTERS_PER_CONTROL: u64 = 10;

/// A supported text encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Utf8,
    Utf16Le,
    Utf16Be,
}

/// A format other than plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// A recognised format, with the usual extension of its files.
    Known {
        name: &'static str,
        extension: &'static str,
    },
    Utf32,
    /// Binary data in a `.bin` file, the extension of nanoGPT's token files.
    Tokens,
    /// Other binary data.
    Unknown,
}

/// The contents of a file, judged by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contents {
    /// Text, or no recognised other format.
    Text(Encoding),
    /// UTF-8 with a few zero bytes.
    TextWithZeros,
    Binary(Format),
}

/// Name, extension and test of a format.
type Signature = (&'static str, &'static str, fn(&[u8]) -> bool);

/// Formats that `infer` does not know, or does not recognise by their first bytes.
const FORMATS: [Signature; 8] = [
    ("zstd", "zst", is_zstd),
    ("Parquet", "parquet", |head| head.starts_with(b"PAR1")),
    ("Arrow", "arrow", |head| head.starts_with(b"ARROW1\0\0")),
    ("GGUF", "gguf", |head| head.starts_with(b"GGUF")),
    ("safetensors", "safetensors", is_safetensors),
    ("PyTorch", "pt", is_pytorch),
    ("NumPy", "npy", |head| head.starts_with(b"\x93NUMPY")),
    ("pickle", "pkl", |head| {
        matches!(head, [0x80, 2..=5, b'c' | b'}' | b']' | b'(' | b'X' | 0x8a | 0x95, ..])
    }),
];

/// Classifies a file by its first bytes, `head`; `is_whole` is true if the file has no more bytes.
pub(crate) fn sniff(head: &[u8], is_whole: bool, path: &Path) -> Contents {
    match head {
        [0xef, 0xbb, 0xbf, ..] => return Contents::Text(Encoding::Utf8),
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => return Contents::Binary(Format::Utf32),
        [0xff, 0xfe, ..] => return Contents::Text(Encoding::Utf16Le),
        [0xfe, 0xff, ..] => return Contents::Text(Encoding::Utf16Be),
        // The first kilobytes of a PDF may be ASCII.
        [b'%', b'P', b'D', b'F', b'-', ..] => return known("PDF", "pdf"),
        _ if head.starts_with(LFS_POINTER) => return known("Git LFS", LFS),
        _ => (),
    }
    let text = utf8(head, is_whole);
    if !head.contains(&0) && (text.is_some() || !has_controls(head)) && !is_zstd(head) {
        return Contents::Text(Encoding::Utf8); // Or an older encoding, which is detected while decoding.
    }
    if let Some(extension) = zipped_document(head, path) {
        return known(name_of(extension), extension);
    }
    if let Some((name, extension, _)) = FORMATS.iter().find(|(_, _, is_it)| is_it(head)) {
        return known(name, extension);
    }
    let has_few_zeros = text.is_some_and(|text| Controls::of(text).are_few());
    let is_bin = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("bin"));
    if !has_few_zeros
        && !is_bin
        && let Some(encoding) = utf16(head, is_whole)
    {
        return Contents::Text(encoding);
    }
    if let Some(found) = infer::get(head).filter(|found| found.matcher_type() != MatcherType::Text) {
        return known(name_of(found.extension()), found.extension());
    }
    if has_few_zeros {
        return Contents::TextWithZeros;
    }
    if is_utf32(head) {
        return Contents::Binary(Format::Utf32);
    }
    if !head.contains(&0) && !is_full_of_controls(head) {
        return Contents::Text(Encoding::Utf8); // Such as a DOS text file, which ends in a control character.
    }
    Contents::Binary(if is_bin { Format::Tokens } else { Format::Unknown })
}

/// The number of control characters and of all characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Controls {
    pub(crate) n_controls: u64,
    pub(crate) n_characters: u64,
}

impl Controls {
    pub(crate) fn of(text: &str) -> Self {
        let mut controls = Self::default();
        controls.add(text);
        controls
    }

    pub(crate) fn add(&mut self, text: &str) {
        for character in text.chars() {
            self.n_characters += 1;
            self.n_controls += u64::from(is_control(character));
        }
    }

    /// Whether the control characters are few enough for text.
    pub(crate) fn are_few(self) -> bool {
        MIN_CHARACTERS_PER_CONTROL * self.n_controls <= self.n_characters
    }
}

/// Line ends, tabs, form feeds and terminal escapes are allowed in text.
fn is_control(character: char) -> bool {
    character.is_control() && !matches!(character, '\t' | '\n' | '\r' | '\x0c' | '\x1b' | '\u{85}')
}

/// Whether any byte is an ASCII control character, which it is in every superset of ASCII too.
pub(crate) fn has_controls(bytes: &[u8]) -> bool {
    bytes.iter().any(|&byte| byte.is_ascii() && is_control(char::from(byte)))
}

/// Whether more than 2% of the bytes are ASCII control characters.
pub(crate) fn is_full_of_controls(bytes: &[u8]) -> bool {
    50 * bytes.iter().filter(|&&byte| has_controls(&[byte])).count() > bytes.len()
}

/// The bytes as UTF-8, without an incomplete last character.
fn utf8(head: &[u8], is_whole: bool) -> Option<&str> {
    match str::from_utf8(head) {
        Ok(text) => Some(text),
        Err(error) if error.error_len().is_none() && !is_whole => {
            str::from_utf8(&head[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
}

/// Detects UTF-16 without a byte order mark, and its byte order.
///
/// In the right byte order there are hardly any control characters, and many ASCII or fullwidth characters (spaces,
/// line ends, punctuation), which all scripts share. In the wrong order there are almost none.
fn utf16(head: &[u8], is_whole: bool) -> Option<Encoding> {
    if is_whole && !head.len().is_multiple_of(2) {
        return None;
    }
    let score = |order: fn([u8; 2]) -> u16| {
        let units = head.as_chunks::<2>().0.iter().copied().map(order);
        let mut n_characters = 0;
        let (mut n_controls, mut n_common) = (0, 0);
        let mut characters = char::decode_utf16(units).peekable();
        while let Some(character) = characters.next() {
            let is_cut_off = !is_whole && characters.peek().is_none();
            match character {
                Ok(character) => {
                    n_characters += 1;
                    n_controls += usize::from(is_control(character));
                    let is_common = matches!(character, '\t' | '\n' | '\r' | ' '..='~' | '\u{3000}'..='\u{3002}' | '\u{ff01}'..='\u{ff5e}');
                    n_common += usize::from(is_common);
                }
                Err(_) if is_cut_off => (),
                Err(_) => n_controls += 1, // An unpaired surrogate.
            }
        }
        let is_text = n_characters >= 4 && 100 * n_controls <= n_characters && 20 * n_common > n_characters;
        is_text.then_some(n_common)
    };
    let (little, big) = (score(u16::from_le_bytes), score(u16::from_be_bytes));
    match little.max(big) {
        None => None,
        best if best == little => Some(Encoding::Utf16Le),
        _ => Some(Encoding::Utf16Be),
    }
}

/// Detects UTF-32 text of the Basic Multilingual Plane, in which two of every four bytes are zero.
fn is_utf32(head: &[u8]) -> bool {
    let characters = head.as_chunks::<4>().0;
    let all = |order: fn([u8; 4]) -> u32| {
        characters.iter().all(|&bytes| {
            let is_text = |character: char| character != '\0' && !is_control(character);
            order(bytes) <= 0xffff && char::from_u32(order(bytes)).is_some_and(is_text)
        })
    };
    !characters.is_empty() && (all(u32::from_le_bytes) || all(u32::from_be_bytes))
}

/// Checked separately because a short archive may contain no control character.
fn is_zstd(head: &[u8]) -> bool {
    head.starts_with(b"\x28\xb5\x2f\xfd")
}

/// A safetensors file begins with the length of a JSON object and the object itself.
fn is_safetensors(head: &[u8]) -> bool {
    matches!(head, [_, _, _, _, _, 0, 0, 0, b'{', b'"', ..])
}

/// A zip archive whose first entry is a pickle, or the pickled magic number of PyTorch's older format.
fn is_pytorch(head: &[u8]) -> bool {
    let begins_with_pickle = || {
        let length = u16::from_le_bytes([*head.get(26)?, *head.get(27)?]);
        Some(head.get(30..30 + usize::from(length))?.ends_with(b"/data.pkl"))
    };
    head.starts_with(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.")
        || (head.starts_with(b"PK\x03\x04") && begins_with_pickle() == Some(true))
}

/// The extension of a zipped document, by its first entries, or by the file's name where the entries are ambiguous.
fn zipped_document(head: &[u8], path: &Path) -> Option<&'static str> {
    const MIME_TYPES: [(&[u8], &str); 2] =
        [(b"application/vnd.oasis.opendocument.text", "odt"), (b"application/epub+zip", "epub")];
    let is_entry = |header: &[u8], name: &[u8]| {
        header.starts_with(b"PK\x03\x04") && header.get(30..).is_some_and(|rest| rest.starts_with(name))
    };
    if is_entry(head, b"mimetype") {
        // The entry is stored uncompressed.
        let found = MIME_TYPES.iter().find(|(mime_type, _)| head[38..].starts_with(mime_type));
        return found.map(|&(_, extension)| extension);
    }
    if !head.starts_with(b"PK\x03\x04") {
        return None;
    }
    let has_entry = |name: &[u8]| (0..head.len()).any(|start| is_entry(&head[start..], name));
    if has_entry(b"word/") {
        return Some("docx");
    }
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    ["docx", "odt", "epub"].into_iter().find(|&known| known == extension)
}

fn known(name: &'static str, extension: &'static str) -> Contents {
    Contents::Binary(Format::Known { name, extension })
}

/// The common name of the format with this extension.
fn name_of(extension: &'static str) -> &'static str {
    match extension {
        "gz" => "gzip",
        "bz2" => "bzip2",
        "docx" | "doc" => "Word",
        "xlsx" | "xls" => "Excel",
        "pptx" | "ppt" => "PowerPoint",
        "odt" | "ods" | "odp" => "OpenDocument",
        "epub" => "EPUB",
        "sqlite" => "SQLite",
        "png" => "PNG",
        "jpg" => "JPEG",
        "gif" => "GIF",
        "webp" => "WebP",
        "tif" => "TIFF",
        "elf" | "exe" | "mach" => "program",
        extension => extension,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(head: &[u8]) -> Contents {
        sniff(head, true, Path::new("file.txt"))
    }

    fn encoded(text: &str, order: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(order).collect()
    }

    #[test]
    fn text_in_any_script_is_recognised_in_either_byte_order() {
        for text in [
            "To be, or not to be\r\n",
            "Каждый день, и ночью тоже.\n",
            "学而时习之，不亦说乎？一二三。\n",
            "吾輩は猫である。名前はまだ無い。",
            "Ἄνδρα μοι ἔννεπε 🙂\n",
        ] {
            assert_eq!(of(text.as_bytes()), Contents::Text(Encoding::Utf8), "{text}");
            assert_eq!(of(&encoded(text, u16::to_le_bytes)), Contents::Text(Encoding::Utf16Le), "{text}");
            assert_eq!(of(&encoded(text, u16::to_be_bytes)), Contents::Text(Encoding::Utf16Be), "{text}");
            let marked = format!("\u{feff}{text}");
            assert_eq!(of(&encoded(&marked, u16::to_le_bytes)), Contents::Text(Encoding::Utf16Le), "{text}");
            assert_eq!(of(&encoded(&marked, u16::to_be_bytes)), Contents::Text(Encoding::Utf16Be), "{text}");
            let wide: Vec<u8> = text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
            let is_one_plane = text.chars().all(|c| u32::from(c) < 0x10000);
            assert_eq!(of(&wide) == Contents::Binary(Format::Utf32), is_one_plane, "{text}");
        }
        // The head may end within a character.
        let head = "é".repeat(50);
        assert_eq!(sniff(&head.as_bytes()[..99], false, Path::new("a")), Contents::Text(Encoding::Utf8));
        let head = encoded("abc 🙂", u16::to_le_bytes);
        assert_eq!(sniff(&head[..10], false, Path::new("a")), Contents::Text(Encoding::Utf16Le));
    }

    /// The headers of a zip archive's entries, each followed by a byte that is not valid text.
    fn zip(entries: &[&str]) -> Vec<u8> {
        let header = b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x08\0\0\0";
        entries.iter().flat_map(|entry| [header, entry.as_bytes(), b"\xff"].concat()).collect()
    }

    #[test]
    fn formats_are_named() {
        for (head, expected) in [
            (&b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xcb\x48"[..], "gzip"),
            (b"\x28\xb5\x2f\xfd\x24\xff\xb1\xc3", "zstd"),
            (b"PAR1\x15\x04\x15\x10\xff", "Parquet"),
            (b"%PDF-1.7\n", "PDF"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:01\n", "Git LFS"),
            (b"SQLite format 3\0\x10\0", "SQLite"),
            (b"GGUF\x03\0\0\0", "GGUF"),
            (b"\x42\0\0\0\0\0\0\0{\"a\":", "safetensors"),
            (b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\0\0archive/data.pkl\x80\x02", "PyTorch"),
            (b"PK\x03\x04\x14\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0a.txt\xff", "zip"),
            (&zip(&["[Content_Types].xml", "_rels/.rels", "word/document.xml"]), "Word"),
            (&zip(&["mimetypeapplication/vnd.oasis.opendocument.text"]), "OpenDocument"),
            (&zip(&["mimetypeapplication/epub+zip"]), "EPUB"),
            (b"\x80\x04\x95\x05\0\0\0\0\0\0\0", "pickle"),
            (b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", "PNG"),
            (b"\x93NUMPY\x01\0v\0", "NumPy"),
        ] {
            let Contents::Binary(Format::Known { name, .. }) = of(head) else { panic!("{expected}: {:?}", of(head)) };
            assert_eq!(name, expected);
        }
    }

    #[test]
    fn text_that_begins_like_another_format_is_text() {
        for text in [
            "BM stands for",
            "MZ",
            "GIFTS, all of them",
            "ID3 tags",
            "PK\n",
            "PAR1",
            "GGUF is a format",
            "<html>",
        ] {
            assert_eq!(of(text.as_bytes()), Contents::Text(Encoding::Utf8), "{text}");
        }
        assert_eq!(
            of(b"GIFTS for a caf\xe9"),
            Contents::Text(Encoding::Utf8),
            "the encoding is detected while decoding"
        );
        let dos =
            [&b"caf\x82 au lait, s'il vous pla\x8ct; et un croissant, bien chaud\r\n"[..], b"\x1a"].concat();
        assert_eq!(of(&dos), Contents::Text(Encoding::Utf8));
    }

    #[test]
    fn zeros_and_control_characters_are_not_text() {
        assert_eq!(of(b"a log of \x1b[1mcolours\x1b[0m with one\0 in it"), Contents::TextWithZeros);
        assert_eq!(of(&[0; 99]), Contents::Binary(Format::Unknown));
        assert_eq!(of(&[0xff, 1, 7, 0, 0x80, 3]), Contents::Binary(Format::Unknown));
        // nanoGPT token files, with character and GPT-2 ids, are neither UTF-16 nor UTF-8.
        let ids: Vec<u8> = (0..4000_u16).flat_map(|place| (place * 7 % 65).to_le_bytes()).collect();
        assert_eq!(of(&ids), Contents::Binary(Format::Unknown));
        let ids: Vec<u8> =
            (0..4000_u16).flat_map(|place| place.wrapping_mul(7919).min(50256).to_le_bytes()).collect();
        assert!(!matches!(sniff(&ids, false, Path::new("train.bin")), Contents::Text(_)));
        let bytes: Vec<u8> =
            b"of bytes, as Kindling writes them".iter().flat_map(|&byte| [byte, 0]).collect();
        assert_eq!(sniff(&bytes, true, Path::new("train.bin")), Contents::Binary(Format::Tokens));
    }
}
