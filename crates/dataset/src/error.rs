//! Errors of finding, reading and preparing a corpus.

use std::io;
use std::path::{Path, PathBuf};

use crate::{Dtype, NotText};

/// An error of finding, reading, preparing or sampling a corpus.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither a known corpus nor a path.
    #[error(
        "`{name}` is neither a known corpus nor an existing file or folder{}; known corpora: {}",
        suggestion(.nearest.as_deref()), .known.join(", ")
    )]
    UnknownCorpus {
        name: String,
        /// The most similar name of a known corpus.
        nearest: Option<String>,
        /// The names of all known corpora.
        known: Vec<String>,
    },

    #[error("there is no file or folder {}", .path.display())]
    Missing { path: PathBuf },

    /// An existing file or folder that can't be read.
    #[error("cannot read {}; check its permissions", .path.display())]
    Read { path: PathBuf, source: io::Error },

    /// A broken symbolic link.
    #[error("{} is a link to {}, which does not exist; fix the link or give another path", .path.display(), .target.display())]
    DeadLink { path: PathBuf, target: PathBuf },

    /// A pipe or a device, which can be read only once.
    #[error("{} is neither a file nor a folder and can be read only once; save it to a file and give that path", .path.display())]
    NotAFile { path: PathBuf },

    #[error("{0}")]
    NotText(Box<NotText>),

    /// Several files that are not text.
    #[error("{} files in {folder} are not text:{}", .files.len(), lines(.files))]
    NotTexts { folder: String, files: Vec<NotText> },

    /// `--data` and `--valid` with the same file or folder.
    #[error(
        "--data and --valid are the same {}, {}; omit --valid to validate on the end of the text, or give another path",
        if .path.is_dir() { "folder" } else { "file" }, .path.display()
    )]
    SameText { path: PathBuf },

    /// `--valid` with a copy of the file of `--data`.
    #[error(
        "the --valid file {} is a copy of the --data file {}; omit --valid to validate on the end of the text, or give another path",
        .valid.display(), .train.display()
    )]
    CopiedText { valid: PathBuf, train: PathBuf },

    #[error("{text} is empty; give a file with text in it")]
    Empty {
        /// A name or path.
        text: String,
    },

    /// A folder without text files.
    #[error("{} contains no text file (hidden, binary, empty and validation files, runs and prepared data are skipped); give another path", .folder.display())]
    NoText { folder: PathBuf },

    /// A text that is not longer than one window.
    #[error(
        "a text of {n_tokens} tokens is too short for windows of {block_size}, which need at least {}: use a \
         longer text or a smaller model.block_size; for the validation part, use a larger data.valid_fraction \
         or a separate text with --valid", .block_size + 1
    )]
    TooShort {
        n_tokens: usize,
        /// Tokens per window. The last target needs one more.
        block_size: usize,
    },

    /// No examples to train on.
    #[error("there are no examples")]
    NoExamples,

    /// An example or a pair of them that does not fit a row.
    #[error("example or pair {idx} has {n_tokens} tokens and does not fit a block of {block_size}")]
    LongExample { idx: usize, n_tokens: usize, block_size: usize },

    /// A fraction that leaves no text for training or for validation.
    #[error("valid_fraction must be between 0 and 1, for example 0.1 (got {0})")]
    ValidFraction(f64),

    /// A character that is not in a given tokenizer's vocabulary.
    #[error(
        "{text}, line {line}: the character {character:?} (U+{:04X}) is not in the tokenizer's vocabulary; \
         remove it from the text, or train a new model with data.tokenizer=byte, gpt2 or bpe:N, which encode any text",
        u32::from(*character)
    )]
    UnknownCharacter {
        /// The file, or the name of the text.
        text: String,
        character: char,
        /// Counted from 1.
        line: u64,
    },

    #[error("cannot tokenise {text}; try another kind of tokenizer")]
    Tokenize { text: String, source: tokenizer::Error },

    /// A tokenizer that can't be trained, saved or loaded.
    #[error(transparent)]
    Tokenizer(#[from] tokenizer::Error),

    /// A file that changed during preparation.
    #[error("{} changed while it was being prepared; try again once no other process writes to it", .path.display())]
    Changed { path: PathBuf },

    /// A wrong checksum.
    #[error("{what} has the SHA-256 {got}, not {expected}; {advice}")]
    Checksum {
        /// A file or download.
        what: String,
        /// In hexadecimal.
        expected: String,
        /// In hexadecimal.
        got: String,
        advice: String,
    },

    /// A full disk.
    #[error(
        "the disk of {} is full: preparing needs up to {needed_bytes} bytes there; free some space or choose \
         another folder", .folder.display()
    )]
    DiskFull {
        folder: PathBuf,
        /// An upper bound.
        needed_bytes: u64,
        source: io::Error,
    },

    /// A file or folder that can't be written, for another reason than a full disk.
    #[error("cannot write {}; check its permissions or choose another folder", .path.display())]
    Write { path: PathBuf, source: io::Error },

    /// A missing, damaged or inconsistent file of a prepared folder.
    #[error("{} can't be used: {reason}; delete its folder and prepare the text again", .path.display())]
    Unusable { path: PathBuf, reason: String },

    /// A shard that can't be memory-mapped.
    #[error("cannot map {} into memory; if it is missing or damaged, delete its folder and prepare the text again", .path.display())]
    Map { path: PathBuf, source: io::Error },

    /// A shard that ends within a token.
    #[error("{} has {size_bytes} bytes, not a whole number of {dtype:?} tokens; delete its folder and prepare the text again", .path.display())]
    ShardSize { path: PathBuf, size_bytes: usize, dtype: Dtype },

    /// A failed download.
    #[error("cannot download {what}: {reason}; {advice}")]
    Fetch {
        /// A corpus, package or URL.
        what: String,
        reason: String,
        advice: String,
    },
}

impl Error {
    /// Whether the text does not exist.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::UnknownCorpus { .. } => true,
            Self::Read { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// The error for a failed read of `path`.
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::missing(path),
            _ => Self::Read { path: path.into(), source },
        }
    }

    /// The error for a path that does not exist or is a broken link.
    pub(crate) fn missing(path: &Path) -> Self {
        match path.read_link() {
            Ok(target) => Self::DeadLink { path: path.into(), target },
            Err(_) => Self::Missing { path: path.into() },
        }
    }

    /// The error for a failed write to `path`, which would need up to `needed_bytes`.
    pub(crate) fn write(path: &Path, needed_bytes: u64, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                let folder = path.parent().unwrap_or(path).into();
                Self::DiskFull { folder, needed_bytes, source }
            }
            _ => Self::Write { path: path.into(), source },
        }
    }
}

/// One line per file.
fn lines(files: &[NotText]) -> String {
    files.iter().map(|file| format!("\n  {file}")).collect()
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}

/// A result with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_differs_from_other_failed_writes() {
        let path = Path::new("data/name/train.bin");
        let full = Error::write(path, 1234, io::ErrorKind::StorageFull.into());
        assert!(matches!(full, Error::DiskFull { .. }));
        assert!(full.to_string().starts_with(
            "the disk of data/name is full: preparing needs up to 1234 bytes there; free some space"
        ));
        let denied = Error::write(path, 1234, io::ErrorKind::PermissionDenied.into());
        assert!(matches!(denied, Error::Write { .. }));
    }
}
