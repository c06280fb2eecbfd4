//! What can go wrong between a text and its windows.

use std::io;
use std::path::{Path, PathBuf};

use crate::{Dtype, NotText};

/// Why a corpus could not be found, read, prepared or drawn from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither a known corpus nor a path.
    #[error(
        "`{name}` is neither a known corpus nor an existing file or folder{}; known are {}",
        suggestion(.nearest.as_deref()), .known.join(", ")
    )]
    UnknownCorpus {
        /// What was asked for.
        name: String,
        /// The known corpus whose name is most alike, if one is.
        nearest: Option<String>,
        /// All known corpora.
        known: Vec<String>,
    },

    /// A path with no file or folder at its end.
    #[error("there is no file or folder {}", .path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },

    /// A file or folder that is there and cannot be read.
    #[error("cannot read {}; check its permissions", .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },

    /// A link to a file or folder that is not there.
    #[error("{} is a link to {}, which is missing; name another file, or mend the link", .path.display(), .target.display())]
    DeadLink {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },

    /// A pipe or a device, which can be read only once.
    #[error("{} is neither a file nor a folder, and can be read only once; write it to a file first, and name that", .path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },

    /// A file that is not text.
    #[error("{0}")]
    NotText(Box<NotText>),

    /// Several of them.
    #[error("{} files of {folder} are not text:{}", .files.len(), lines(.files))]
    NotTexts {
        /// The folder.
        folder: String,
        /// The files.
        files: Vec<NotText>,
    },

    /// `--data` and `--valid` with one file or folder.
    #[error(
        "--data and --valid both name the same {}, {}; leave --valid out to validate on the end of the text, or name another text",
        if .path.is_dir() { "folder" } else { "text" }, .path.display()
    )]
    SameText {
        /// The file or folder.
        path: PathBuf,
    },

    /// `--valid` with a copy of what `--data` names.
    #[error(
        "{} of --valid is a copy of {}, which is trained on; leave --valid out to validate on the end of the text, or name another text",
        .valid.display(), .train.display()
    )]
    CopiedText {
        /// The file to validate on.
        valid: PathBuf,
        /// The file to train on.
        train: PathBuf,
    },

    /// A text of no characters.
    #[error("{text} is empty; give a file with text in it")]
    Empty {
        /// The text.
        text: String,
    },

    /// A folder without a text file.
    #[error("{} contains no text file (hidden, binary, empty and validation files do not count, nor do runs and prepared data); name another, or a file", .folder.display())]
    NoText {
        /// The folder.
        folder: PathBuf,
    },

    /// A text that is not longer than one window.
    #[error(
        "a text of {n_tokens} tokens is too short for windows of {block_size}, which need at least {}: give a \
         longer text or a smaller model.block_size; if it is the validation part, give a larger data.valid_fraction \
         or a validation text with --valid", .block_size + 1
    )]
    TooShort {
        /// Tokens there are.
        n_tokens: usize,
        /// Tokens of a window, which needs one more for its last target.
        block_size: usize,
    },

    /// A validation part that is nothing or everything.
    #[error("valid_fraction is {0}, and must be between 0 and 1, for example 0.1")]
    ValidFraction(f64),

    /// A character that a given tokenizer does not know.
    #[error(
        "{text} has the character {character:?} (U+{:04X}) in line {line}, which the tokenizer's vocabulary lacks; \
         take it out of the text, or train a new model with data.tokenizer=byte, gpt2 or bpe:N, which know every character",
        u32::from(*character)
    )]
    UnknownCharacter {
        /// The file, or the name of the text.
        text: String,
        /// The character.
        character: char,
        /// Its line, from 1.
        line: u64,
    },

    /// The tokenizer failed.
    #[error("cannot tokenise {text}; try another kind of tokenizer")]
    Tokenize {
        /// The text.
        text: String,
        /// What the tokenizer said.
        source: tokenizer::Error,
    },

    /// A tokenizer could not be made, saved or loaded.
    #[error(transparent)]
    Tokenizer(#[from] tokenizer::Error),

    /// A text that changed while it was read.
    #[error("{} changed while it was being prepared; try again when nothing writes to it", .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },

    /// Bytes other than those expected.
    #[error("{what} has the sha256 {got} and not {expected}; {advice}")]
    Checksum {
        /// What was checked.
        what: String,
        /// The checksum wanted, in hexadecimal.
        expected: String,
        /// The checksum found, in hexadecimal.
        got: String,
        /// What to do.
        advice: String,
    },

    /// No room for the prepared files.
    #[error(
        "the disk of {} is full: preparing needs up to {needed_bytes} bytes there; free some space or choose \
         another folder", .folder.display()
    )]
    DiskFull {
        /// Where was written.
        folder: PathBuf,
        /// An upper bound of what the files need.
        needed_bytes: u64,
        /// What the file system said.
        source: io::Error,
    },

    /// A file or folder that cannot be written.
    #[error("cannot write {}; check its permissions or choose another folder", .path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },

    /// A file of a prepared folder that is not what it was when the folder was made.
    #[error("{} can't be used: {reason}; delete its folder and prepare the text again", .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A shard that cannot be mapped.
    #[error("cannot map {} into memory; if it is gone or damaged, delete its folder and prepare it again", .path.display())]
    Map {
        /// The shard.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// A shard that ends within a token.
    #[error("{} has {size_bytes} bytes, which is no whole number of {dtype:?} tokens; prepare it again", .path.display())]
    ShardSize {
        /// The shard.
        path: PathBuf,
        /// Its size.
        size_bytes: usize,
        /// How wide its tokens are.
        dtype: Dtype,
    },

    /// A corpus could not be downloaded.
    #[error("cannot fetch {what}; {advice}: {reason}")]
    Fetch {
        /// What was being fetched.
        what: String,
        /// What went wrong.
        reason: String,
        /// What to do.
        advice: String,
    },
}

impl Error {
    /// Whether a text is not where its path says.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::UnknownCorpus { .. } => true,
            Self::Read { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// What a failed read of `path` means.
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::missing(path),
            _ => Self::Read { path: path.into(), source },
        }
    }

    /// That nothing is at a path, or that a link there leads to nothing.
    pub(crate) fn missing(path: &Path) -> Self {
        match path.read_link() {
            Ok(target) => Self::DeadLink { path: path.into(), target },
            Err(_) => Self::Missing { path: path.into() },
        }
    }

    /// What a failed write to `path` means, where files of up to `needed_bytes` were to be written.
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

/// A line for each file.
fn lines(files: &[NotText]) -> String {
    files.iter().map(|file| format!("\n  {file}")).collect()
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}

/// The result of working with a corpus.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_other_failed_writes() {
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
