//! Reads a text (a file, a folder of files, or a string) in blocks of whole characters.
//!
//! Only one block is in memory at a time, so a text may be larger than memory. The files of a folder are its documents,
//! joined by a blank line. UTF-16 is decoded. UTF-8 is not changed (line ends are kept), except that a byte order mark
//! at the beginning of a file is removed.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::str;

use encoding_rs::{Decoder, DecoderResult, UTF_16BE, UTF_16LE};

use crate::listing::{OpenOptions, list};
use crate::not_text::{NotText, Origin, Problem, diagnose, diagnose_file};
use crate::sniff::{Contents, Controls, Encoding, HEAD_BYTES, sniff};
use crate::source_file::{Identity, SourceFile, identity};
use crate::text_file::{TextFile, not_text};
use crate::{Error, Result};

/// Bytes read at a time.
const BLOCK_BYTES: usize = 1 << 20;

/// Separates the documents of a text.
const BLANK_LINE: &str = "\n\n";

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A text that can be read repeatedly.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    /// The name in messages.
    pub(crate) name: String,
    pub(crate) documents: Vec<Document>,
}

#[derive(Debug, Clone)]
pub(crate) enum Document {
    Embedded(&'static str),
    File(TextFile),
}

/// Consecutive characters of one document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) text: String,
    /// Whether these are the first characters of their document.
    pub(crate) starts_document: bool,
}

impl Text {
    pub(crate) fn embedded(name: &str, text: &'static str) -> Self {
        Self { name: name.into(), documents: vec![Document::Embedded(text)] }
    }

    /// Opens a file, or all text files of a folder.
    pub(crate) fn open(path: &Path, options: OpenOptions<'_>) -> Result<Self> {
        let name = path.display().to_string();
        let metadata = fs::metadata(path).map_err(|source| Error::read(path, source))?;
        if !metadata.is_file() && !metadata.is_dir() {
            return Err(Error::NotAFile { path: path.into() });
        }
        let path = path.canonicalize().map_err(|source| Error::read(path, source))?;
        let files = if metadata.is_dir() {
            list(&path, options)?
        } else {
            vec![TextFile::open(&path, &metadata, options.rules)?]
        };
        Ok(Self { name, documents: files.into_iter().map(Document::File).collect() })
    }

    pub(crate) fn files(&self) -> Vec<SourceFile> {
        let file = |document: &Document| match document {
            Document::Embedded(_) => None,
            Document::File(file) => Some(file.file.clone()),
        };
        self.documents.iter().filter_map(file).collect()
    }

    /// The identities of its files.
    pub(crate) fn identities(&self) -> Result<HashSet<Identity>> {
        self.files().iter().map(|file| identity(&file.path)).collect()
    }

    /// Approximate size in bytes, without reading the text.
    pub(crate) fn size_bytes(&self) -> u64 {
        let size = |document: &Document| match document {
            Document::Embedded(text) => text.len() as u64,
            Document::File(file) => file.file.size_bytes,
        };
        self.documents.iter().map(size).sum()
    }

    /// Fails if a file has changed since it was listed.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        match self.files().into_iter().find(|file| SourceFile::stat(&file.path).ok().as_ref() != Some(file)) {
            Some(file) => Err(Error::Changed { path: file.path }),
            None => Ok(()),
        }
    }

    /// The file (or the text's name) and the line, counted from 1, of byte `offset` of the whole text.
    pub(crate) fn locate(&self, offset: u64) -> Result<(String, u64)> {
        let mut blocks = self.blocks();
        let (mut start, mut line) = (0, 1);
        while let Some(block) = blocks.next().transpose()? {
            if block.starts_document {
                line = 1;
            }
            let before = usize::try_from(offset - start).unwrap_or(usize::MAX);
            let is_here = before < block.text.len();
            let lines = &block.text.as_bytes()[..before.min(block.text.len())];
            line += lines.iter().filter(|&&byte| byte == b'\n').count() as u64;
            if is_here {
                break;
            }
            start += block.text.len() as u64;
        }
        let name = match self.documents.get(blocks.next_document.saturating_sub(1)) {
            Some(Document::File(file)) => file.file.path.display().to_string(),
            Some(Document::Embedded(_)) | None => self.name.clone(),
        };
        Ok((name, line))
    }

    /// An iterator over the blocks of the text.
    pub(crate) fn blocks(&self) -> Blocks<'_> {
        Blocks { text: self, next_document: 0, open: None }
    }

    /// Reads the whole text. The error lists all files that are not text; each of them may have been read in part.
    pub(crate) fn read(&self, mut on_block: impl FnMut(&Block)) -> Result<()> {
        let mut blocks = self.blocks();
        let mut bad = Vec::new();
        // The current document and its control characters.
        let mut current = (0, Controls::default());
        loop {
            let block = match blocks.read() {
                Ok(block) => block,
                Err(Error::NotText(file)) => {
                    // If this document failed before its first block, the previous one is still unchecked.
                    let failed_idx = blocks.next_document.saturating_sub(1);
                    if current.0 != failed_idx {
                        bad.extend(self.check(current.0, current.1));
                    }
                    current = (failed_idx, Controls::default());
                    bad.push(*file);
                    blocks.open = None;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if block.as_ref().is_none_or(|block| block.starts_document) {
                bad.extend(self.check(current.0, current.1));
                current = (blocks.next_document.saturating_sub(1), Controls::default());
            }
            let Some(block) = block else { break };
            // The blank line after a document is not part of it.
            if blocks.open.is_some() {
                current.1.add(&block.text);
            }
            on_block(&block);
        }
        match bad.len() {
            0 => Ok(()),
            1 => Err(Error::NotText(Box::new(bad.remove(0)))),
            _ => Err(Error::NotTexts { folder: self.name.clone(), files: bad }),
        }
    }

    /// The error of a document with too many control characters.
    fn check(&self, document_idx: usize, controls: Controls) -> Option<NotText> {
        let Document::File(file) = self.documents.get(document_idx)? else { return None };
        let is_text = file.rules.is_v1() || controls.are_few();
        (!is_text).then(|| file.not_text(Problem::Controls(controls)))
    }
}

/// Decodes the bytes of a file as [`Text`] does.
pub(crate) fn decode(mut bytes: Vec<u8>, path: &Path, origin: Origin) -> Result<String> {
    let head = &bytes[..bytes.len().min(HEAD_BYTES)];
    let text = match sniff(head, bytes.len() <= HEAD_BYTES, path) {
        Contents::Binary(format) => return Err(not_text(path, origin, Problem::Format(format))),
        Contents::Text(Encoding::Utf8) | Contents::TextWithZeros => {
            let n_mark = if bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
            bytes.drain(..n_mark);
            String::from_utf8(bytes).map_err(|error| {
                let offset = error.utf8_error().valid_up_to();
                let problem = diagnose(error.as_bytes(), (n_mark + offset) as u64);
                not_text(path, origin, problem)
            })?
        }
        Contents::Text(encoding) => {
            let mut utf16 = Utf16::new(encoding);
            let mut text = String::new();
            utf16.decode(&bytes, true, &mut text).map_err(|problem| not_text(path, origin, problem))?;
            text
        }
    };
    let controls = Controls::of(&text);
    if controls.are_few() { Ok(text) } else { Err(not_text(path, origin, Problem::Controls(controls))) }
}

/// Iterates over the blocks of a text. An item is an error if its file can't be read or decoded.
#[derive(Debug)]
pub(crate) struct Blocks<'a> {
    text: &'a Text,
    next_document: usize,
    open: Option<Open<'a>>,
}

/// An open document.
#[derive(Debug)]
enum Open<'a> {
    Embedded { rest: &'a str, is_new: bool },
    File(OpenFile<'a>),
}

#[derive(Debug)]
struct OpenFile<'a> {
    text_file: &'a TextFile,
    file: File,
    /// The decoder of a UTF-16 file.
    utf16: Option<Utf16>,
    /// The bytes of an incomplete last character.
    partial: Vec<u8>,
    /// Bytes of the file before `partial`.
    offset: u64,
    is_new: bool,
}

/// Decodes UTF-16 incrementally, without the byte order mark.
struct Utf16 {
    encoding: Encoding,
    decoder: Decoder,
    /// Bytes decoded so far.
    offset: u64,
    is_finished: bool,
}

impl Iterator for Blocks<'_> {
    type Item = Result<Block>;

    fn next(&mut self) -> Option<Result<Block>> {
        self.read().transpose()
    }
}

impl<'a> Blocks<'a> {
    fn read(&mut self) -> Result<Option<Block>> {
        loop {
            let Some(open) = &mut self.open else {
                let Some(document) = self.text.documents.get(self.next_document) else {
                    return Ok(None);
                };
                self.open = Some(Open::new(document)?);
                self.next_document += 1;
                continue;
            };
            if let Some(block) = open.read()? {
                return Ok(Some(block));
            }
            self.open = None;
            if self.next_document < self.text.documents.len() {
                return Ok(Some(Block { text: BLANK_LINE.into(), starts_document: false }));
            }
        }
    }
}

impl<'a> Open<'a> {
    fn new(document: &'a Document) -> Result<Self> {
        match document {
            Document::Embedded(text) => Ok(Self::Embedded { rest: text, is_new: true }),
            Document::File(text_file) => {
                let path = &text_file.file.path;
                let file = File::open(path).map_err(|source| Error::read(path, source))?;
                let utf16 = (text_file.encoding != Encoding::Utf8).then(|| Utf16::new(text_file.encoding));
                Ok(Self::File(OpenFile {
                    text_file,
                    file,
                    utf16,
                    partial: Vec::new(),
                    offset: 0,
                    is_new: true,
                }))
            }
        }
    }

    fn read(&mut self) -> Result<Option<Block>> {
        match self {
            Self::Embedded { rest: "", .. } => Ok(None),
            Self::Embedded { rest, is_new } => {
                let (text, after) = rest.split_at(rest.floor_char_boundary(BLOCK_BYTES));
                let block = Block { text: text.into(), starts_document: *is_new };
                (*rest, *is_new) = (after, false);
                Ok(Some(block))
            }
            Self::File(file) => file.read(),
        }
    }
}

impl OpenFile<'_> {
    fn read(&mut self) -> Result<Option<Block>> {
        let mut text = String::new();
        // A block of UTF-16 may end within its first character.
        while text.is_empty() {
            let mut bytes = Vec::with_capacity(BLOCK_BYTES);
            bytes.append(&mut self.partial);
            let wanted = BLOCK_BYTES - bytes.len();
            let path = &self.text_file.file.path;
            let n_read = (&mut self.file)
                .take(wanted as u64)
                .read_to_end(&mut bytes)
                .map_err(|source| Error::read(path, source))?;
            let is_end = n_read < wanted;
            text = match &mut self.utf16 {
                None => self.decode_utf8(bytes, is_end)?,
                Some(utf16) => {
                    let failed = |problem| not_text(path, self.text_file.origin, problem);
                    utf16.decode(&bytes, is_end, &mut text).map_err(failed)?;
                    text
                }
            };
            if text.is_empty() && is_end {
                return Ok(None);
            }
        }
        let starts_document = std::mem::replace(&mut self.is_new, false);
        Ok(Some(Block { text, starts_document }))
    }

    fn decode_utf8(&mut self, mut bytes: Vec<u8>, is_end: bool) -> Result<String> {
        if self.offset == 0 && bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
            self.offset = BYTE_ORDER_MARK.len() as u64;
        }
        let valid = match str::from_utf8(&bytes) {
            Ok(_) => bytes.len(),
            // The last character may continue in the next block.
            Err(error) if error.error_len().is_none() && !is_end => error.valid_up_to(),
            Err(error) => {
                let offset = self.offset + error.valid_up_to() as u64;
                let path = &self.text_file.file.path;
                return Err(not_text(path, self.text_file.origin, diagnose_file(path, offset)));
            }
        };
        self.partial = bytes.split_off(valid);
        self.offset += valid as u64;
        Ok(String::from_utf8(bytes).expect("the bytes are validated above"))
    }
}

impl Utf16 {
    fn new(encoding: Encoding) -> Self {
        let decoder = if encoding == Encoding::Utf16Be { UTF_16BE } else { UTF_16LE };
        Self { encoding, decoder: decoder.new_decoder_with_bom_removal(), offset: 0, is_finished: false }
    }

    /// Appends the decoded characters of `bytes` to `text`.
    fn decode(&mut self, bytes: &[u8], is_end: bool, text: &mut String) -> Result<(), Problem> {
        if std::mem::replace(&mut self.is_finished, is_end) {
            return Ok(()); // The previous block reached the end.
        }
        let length = self.decoder.max_utf8_buffer_length_without_replacement(bytes.len());
        text.reserve(length.expect("the text is at most three times as long as the bytes in memory"));
        let (result, n_read) = self.decoder.decode_to_string_without_replacement(bytes, text, is_end);
        self.offset += n_read as u64;
        match result {
            DecoderResult::InputEmpty => Ok(()),
            DecoderResult::OutputFull => unreachable!("enough space is reserved"),
            DecoderResult::Malformed(length, after) => {
                let offset = self.offset.saturating_sub(u64::from(length) + u64::from(after));
                let encoding = match self.encoding {
                    Encoding::Utf16Be => "UTF-16BE",
                    Encoding::Utf16Le | Encoding::Utf8 => "UTF-16LE",
                };
                let is_odd = is_end && n_read == bytes.len() && !self.offset.is_multiple_of(2);
                Err(if is_odd {
                    Problem::Truncated { size_bytes: self.offset, encoding }
                } else {
                    Problem::Damaged { offset, encoding }
                })
            }
        }
    }
}

impl std::fmt::Debug for Utf16 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Utf16")
            .field("encoding", &self.encoding)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}
