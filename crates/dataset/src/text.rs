//! A text as it is read: one file, a folder of files, or a string, in blocks of whole characters.
//!
//! Nothing here holds more than one block, so that a text may be larger than the memory. A folder's files are
//! its documents, joined by a blank line. Bytes are taken as they are (line ends too), but for the byte order
//! mark that some editors put before a file's first character: it is no text and is left out.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use crate::{Error, Result};

/// Bytes read at once.
const BLOCK_BYTES: usize = 1 << 20;

/// Between the documents of a text.
const BLANK_LINE: &str = "\n\n";

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A text that can be read as often as needed.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    /// How messages call it.
    pub(crate) name: String,
    pub(crate) documents: Vec<Document>,
}

#[derive(Debug, Clone)]
pub(crate) enum Document {
    Embedded(&'static str),
    File(SourceFile),
}

/// A file as it was when it was listed. If size and time are what they were, so is the content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Absolute path.
    pub path: PathBuf,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Time of the last change, in nanoseconds since 1970; 0 where the file system keeps none.
    pub modified_ns: u64,
}

/// Consecutive characters of one document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) text: String,
    /// Whether these are the first characters of their document.
    pub(crate) starts_document: bool,
}

impl SourceFile {
    fn stat(path: &Path) -> Result<Self> {
        let metadata = fs::metadata(path).map_err(|source| Error::read(path, source))?;
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok(Self {
            path: path.into(),
            size_bytes: metadata.len(),
            modified_ns: modified.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)),
        })
    }
}

impl Text {
    pub(crate) fn embedded(name: &str, text: &'static str) -> Self {
        Self { name: name.into(), documents: vec![Document::Embedded(text)] }
    }

    /// The text of a file, or of all text files of a folder but those under `except`.
    pub(crate) fn open(path: &Path, except: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let path = path.canonicalize().map_err(|source| Error::read(path, source))?;
        let documents = if path.is_dir() {
            let except = except.canonicalize().ok();
            list(&path, except.as_deref())?
        } else {
            vec![Document::File(SourceFile::stat(&path)?)]
        };
        Ok(Self { name, documents })
    }

    /// The files it is read from.
    pub(crate) fn files(&self) -> Vec<SourceFile> {
        let file = |document: &Document| match document {
            Document::Embedded(_) => None,
            Document::File(file) => Some(file.clone()),
        };
        self.documents.iter().filter_map(file).collect()
    }

    /// About how many bytes it has, without reading it.
    pub(crate) fn size_bytes(&self) -> u64 {
        let size = |document: &Document| match document {
            Document::Embedded(text) => text.len() as u64,
            Document::File(file) => file.size_bytes,
        };
        self.documents.iter().map(size).sum()
    }

    /// Fails if a file is no longer what it was when it was listed.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        match self.files().into_iter().find(|file| SourceFile::stat(&file.path).ok().as_ref() != Some(file)) {
            Some(file) => Err(Error::Changed { path: file.path }),
            None => Ok(()),
        }
    }

    /// The file (or the text's name) and the line, from 1, where byte `offset` of the whole text stands.
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
            Some(Document::File(file)) => file.path.display().to_string(),
            Some(Document::Embedded(_)) | None => self.name.clone(),
        };
        Ok((name, line))
    }

    /// Reads it from the beginning.
    pub(crate) fn blocks(&self) -> Blocks<'_> {
        Blocks { text: self, next_document: 0, open: None }
    }
}

/// The text files of a folder, sorted by path. Hidden files, binary files and empty ones are left out.
fn list(folder: &Path, except: Option<&Path>) -> Result<Vec<Document>> {
    let is_hidden = |entry: &walkdir::DirEntry| {
        entry.depth() > 0 && entry.file_name().as_encoded_bytes().starts_with(b".")
    };
    let entries = WalkDir::new(folder)
        .follow_links(true)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|entry| !is_hidden(entry) && Some(entry.path()) != except);

    let mut documents = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(folder).to_owned();
            let loop_of_links = || io::Error::other("a link leads back to a folder that it is in");
            Error::Read { path, source: error.into_io_error().unwrap_or_else(loop_of_links) }
        })?;
        if !entry.file_type().is_file() {
            continue;
        }
        let file = SourceFile::stat(entry.path())?;
        if is_binary(entry.path())? {
            tracing::warn!("{} is left out: it is a binary file", entry.path().display());
        } else if file.size_bytes > 0 {
            documents.push(Document::File(file));
        }
    }
    if documents.is_empty() {
        return Err(Error::NoText { folder: folder.into() });
    }
    Ok(documents)
}

/// Whether a file has a zero byte near its beginning, which text has not. Git tells them apart the same way.
fn is_binary(path: &Path) -> Result<bool> {
    let mut head = Vec::new();
    let read = |file: File, head: &mut Vec<u8>| file.take(8000).read_to_end(head);
    File::open(path).and_then(|file| read(file, &mut head)).map_err(|source| Error::read(path, source))?;
    Ok(head.contains(&0))
}

/// The characters of a text, block by block; each is an error if the file is not UTF-8 there.
#[derive(Debug)]
pub(crate) struct Blocks<'a> {
    text: &'a Text,
    next_document: usize,
    open: Option<Open<'a>>,
}

/// A document that is being read.
#[derive(Debug)]
enum Open<'a> {
    Embedded { rest: &'a str, is_new: bool },
    File(OpenFile<'a>),
}

#[derive(Debug)]
struct OpenFile<'a> {
    path: &'a Path,
    file: File,
    /// The first bytes of a character whose last bytes are not read yet.
    partial: Vec<u8>,
    /// Bytes of the file before `partial`.
    offset: u64,
    is_new: bool,
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
            Document::File(SourceFile { path, .. }) => {
                let file = File::open(path).map_err(|source| Error::read(path, source))?;
                Ok(Self::File(OpenFile { path, file, partial: Vec::new(), offset: 0, is_new: true }))
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
        let mut bytes = Vec::with_capacity(BLOCK_BYTES);
        bytes.append(&mut self.partial);
        let wanted = BLOCK_BYTES - bytes.len();
        let n_read = (&mut self.file)
            .take(wanted as u64)
            .read_to_end(&mut bytes)
            .map_err(|source| Error::read(self.path, source))?;
        let is_end = n_read < wanted;

        if self.offset == 0 && bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
            self.offset = BYTE_ORDER_MARK.len() as u64;
        }
        let valid = match str::from_utf8(&bytes) {
            Ok(_) => bytes.len(),
            // The last character may go on in the next block.
            Err(error) if error.error_len().is_none() && !is_end => error.valid_up_to(),
            Err(error) => {
                let offset = self.offset + error.valid_up_to() as u64;
                return Err(Error::NotUtf8 { path: self.path.into(), offset });
            }
        };
        self.partial = bytes.split_off(valid);
        self.offset += valid as u64;
        if bytes.is_empty() {
            return Ok(None);
        }
        let text = String::from_utf8(bytes).expect("the bytes up to here were validated");
        let starts_document = std::mem::replace(&mut self.is_new, false);
        Ok(Some(Block { text, starts_document }))
    }
}
