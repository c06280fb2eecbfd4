//! One text file and how it is read.

use std::{fs, path::Path};

use crate::{
    Error, Result, Rules,
    not_text::{NotText, Place, Problem},
    sniff::{Contents, Encoding, HEAD_BYTES, sniff},
    source_file::{SourceFile, read_head},
};

/// A file and how it is read.
#[derive(Debug, Clone)]
pub(crate) struct TextFile {
    pub(crate) file: SourceFile,
    pub(crate) encoding: Encoding,
    pub(crate) place: Place,
    pub(crate) rules: Rules,
}

impl TextFile {
    /// A file that is named by itself.
    pub(crate) fn open(path: &Path, metadata: &fs::Metadata, rules: Rules) -> Result<Self> {
        let file = SourceFile::new(path, metadata);
        let alone = |encoding| Self { file, encoding, place: Place::Alone, rules };
        if rules.is_v1() {
            return Ok(alone(Encoding::Utf8));
        }
        match look_at(path)? {
            Contents::Text(encoding) => Ok(alone(encoding)),
            Contents::TextWithZeros => Ok(alone(Encoding::Utf8)),
            Contents::Binary(format) => Err(not_text(path, Place::Alone, Problem::Format(format))),
        }
    }

    pub(crate) fn not_text(&self, problem: Problem) -> NotText {
        NotText { path: self.file.path.clone(), place: self.place, problem }
    }
}

/// What the first bytes of a file say of it.
pub(crate) fn look_at(path: &Path) -> Result<Contents> {
    let head = read_head(path)?;
    Ok(sniff(&head, head.len() < HEAD_BYTES, path))
}

pub(crate) fn not_text(path: &Path, place: Place, problem: Problem) -> Error {
    Error::NotText(Box::new(NotText { path: path.into(), place, problem }))
}
