//! A text file with its encoding and reading rules.

use std::{fs, path::Path};

use crate::{
    Error, Result, Rules,
    not_text::{NotText, Origin, Problem},
    sniff::{Contents, Encoding, HEAD_BYTES, sniff},
    source_file::{SourceFile, read_head},
};

/// A text file with its encoding and reading rules.
#[derive(Debug, Clone)]
pub(crate) struct TextFile {
    pub(crate) file: SourceFile,
    pub(crate) encoding: Encoding,
    pub(crate) origin: Origin,
    pub(crate) rules: Rules,
}

impl TextFile {
    /// Opens a file given by its own path.
    pub(crate) fn open(path: &Path, metadata: &fs::Metadata, rules: Rules) -> Result<Self> {
        let file = SourceFile::new(path, metadata);
        let single = |encoding| Self { file, encoding, origin: Origin::SingleFile, rules };
        if rules.is_v1() {
            return Ok(single(Encoding::Utf8));
        }
        match sniff_file(path)? {
            Contents::Text(encoding) => Ok(single(encoding)),
            Contents::TextWithZeros => Ok(single(Encoding::Utf8)),
            Contents::Binary(format) => Err(not_text(path, Origin::SingleFile, Problem::Format(format))),
        }
    }

    pub(crate) fn not_text(&self, problem: Problem) -> NotText {
        NotText { path: self.file.path.clone(), origin: self.origin, problem }
    }
}

/// Classifies a file by its first bytes.
pub(crate) fn sniff_file(path: &Path) -> Result<Contents> {
    let head = read_head(path)?;
    Ok(sniff(&head, head.len() < HEAD_BYTES, path))
}

pub(crate) fn not_text(path: &Path, origin: Origin, problem: Problem) -> Error {
    Error::NotText(Box::new(NotText { path: path.into(), origin, problem }))
}
