//! Why a run folder could not be read or written.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{foreign::is_quantized, hugging_face::NoLayout};

/// Why a run folder could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// No room for a file of the run.
    #[error(
        "no room for {}: the disk is full; free some space and repeat the command, or resume the run with train --resume", .path.display()
    )]
    DiskFull {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// The folder is no model.
    #[error("{} is not a model: it has no {missing}; name a run folder or one in Hugging Face layout", .path.display())]
    NotAModel {
        /// The folder.
        path: PathBuf,
        /// The file it lacks.
        missing: &'static str,
    },

    /// The folder holds something else than a model that can be opened.
    #[error("{} {reason}", .path.display())]
    OtherModel {
        /// The folder or file.
        path: PathBuf,
        /// What it holds, and the way to a model.
        reason: String,
    },

    /// A new run would write over something.
    #[error("{} already exists; choose another name", .path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },

    /// A file of JSON that does not say what it should.
    #[error("cannot understand {}; put back the file that belongs to the weights beside it", .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },

    /// A `config.json` of another kind of model.
    #[error("{}: {reason}", .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is not supported, and what is.
        reason: String,
    },

    /// Sizes no model has.
    #[error("{}: no model has these sizes; put back the file that belongs to the weights beside it", .path.display())]
    Sizes {
        /// The file.
        path: PathBuf,
        /// Which size.
        source: model::ConfigError,
    },

    /// A weights file that can't be read.
    #[error(transparent)]
    Read(#[from] weights::Error),

    /// Weights that can't be put into a file.
    #[error("cannot write {}: {reason}", .path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// Where and why. No `source`: its text has those of its sources in it.
        reason: safetensors::SafeTensorError,
    },

    /// A weight that 16 bits can't hold.
    #[error("cannot write {}: {key} has {value}, which {dtype} can't hold; choose another --dtype", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The tensor.
        key: String,
        /// The number.
        value: f32,
        /// What it was to be stored as.
        dtype: &'static str,
    },

    /// Weights of integers, which other programs multiply by scales.
    #[error("{}: {}", .path.display(), is_quantized(.method))]
    Quantized {
        /// The file.
        path: PathBuf,
        /// What quantized them.
        method: String,
    },

    /// Weights that do not fit the model that `config.json` describes.
    #[error(
        "{} does not fit the sizes given with it; the two are of different models: {}",
        .path.display(), few(.problems, "; ")
    )]
    Weights {
        /// The file.
        path: PathBuf,
        /// One for each tensor that is missing, left over or misshapen, with both shapes.
        problems: Vec<String>,
    },

    /// A model that other programs have no place for.
    #[error("cannot write {}; its run can still be trained and written with", .path.display())]
    NoLayout {
        /// What was to be written.
        path: PathBuf,
        /// Which parts.
        source: NoLayout,
    },

    /// A model that can't be a GGUF file, or not this one.
    #[error("cannot write {}", .path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// Why.
        source: gguf::Error,
    },

    /// A GGUF file that is damaged, or whose model is none of ours.
    #[error("cannot read {}", .path.display())]
    GgufRead {
        /// The file.
        path: PathBuf,
        /// Why.
        source: gguf::Error,
    },

    /// A GGUF file with sizes no model has.
    #[error("cannot read {}: {reason}", .path.display())]
    GgufSizes {
        /// The file.
        path: PathBuf,
        /// Which size, by its key there.
        reason: String,
    },

    /// A GGUF file whose tokens make no tokenizer.
    #[error("cannot read {}", .path.display())]
    GgufVocabulary {
        /// The file.
        path: PathBuf,
        /// Why.
        source: tokenizer::Error,
    },

    /// A model that transformers has a place for and llama.cpp has not.
    #[error("cannot write {}: {reason}; as --format safetensors it can be exported", .path.display())]
    GgufParts {
        /// The file.
        path: PathBuf,
        /// Which part is another there.
        reason: String,
    },

    /// A tokenizer that GGUF has no words for.
    #[error("cannot write {}; as --format safetensors the model can be exported", .path.display())]
    GgufTokenizer {
        /// The file.
        path: PathBuf,
        /// What it does otherwise.
        source: tokenizer::Error,
    },

    /// The tokenizer is missing or damaged.
    #[error("the tokenizer of {} can't be used; put back the tokenizer.json it was trained with", .path.display())]
    Tokenizer {
        /// The folder.
        path: PathBuf,
        /// Which file, and why.
        source: tokenizer::Error,
    },

    /// A checkpoint whose files are not those it was written with.
    #[error("the checkpoint {} is damaged: {reason}", .path.display())]
    Damaged {
        /// The checkpoint's folder.
        path: PathBuf,
        /// Which file, and how.
        reason: String,
    },

    /// A checkpoint whose weights are those of no model, or of another one.
    #[error("cannot read the weights of the checkpoint {}", .path.display())]
    Record {
        /// The checkpoint's folder.
        path: PathBuf,
        /// Why.
        source: burn::store::RecordError,
    },

    /// There is nothing to go on from.
    #[error(
        "all {n} checkpoints of {} are damaged; start a new run from its best weights with train finetune --init-from {}",
        .path.display(), quoted(&.path.display().to_string())
    )]
    AllDamaged {
        /// The run folder.
        path: PathBuf,
        /// How many there are.
        n: usize,
    },

    /// A run that has done steps, and whose checkpoints are not there.
    #[error(
        "{} has been trained and has no checkpoint any more to go on from; start a new run from its best weights with \
         train finetune --init-from {}", .path.display(), quoted(&.path.display().to_string())
    )]
    NoCheckpoint {
        /// The run folder.
        path: PathBuf,
    },

    /// The run's folder was moved or removed while the run went on; there may be another of its name.
    #[error(
        "the folder {} is not there any more, or is another one; put it back, then go on from its last checkpoint by \
         --resume", .path.display()
    )]
    Gone {
        /// The run folder.
        path: PathBuf,
    },

    /// Another process writes to the run.
    #[error("{} is in use: {holder} trains it; wait for it, or stop it first", .path.display())]
    Locked {
        /// The run folder.
        path: PathBuf,
        /// Who holds it.
        holder: String,
    },
}

/// The result of reading or writing a run folder.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The first of many texts.
pub(crate) fn few(problems: &[String], separator: &str) -> String {
    const SHOWN: usize = 3;
    let mut shown: Vec<_> = problems.iter().take(SHOWN).cloned().collect();
    if problems.len() > SHOWN {
        shown.push(format!("and {} more", problems.len() - SHOWN));
    }
    shown.join(separator)
}

/// A path or another argument as the shell takes it.
pub(crate) fn quoted(text: &str) -> String {
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    if is_plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Makes an I/O error say what was done to which path.
pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| fs::failed_to(action, path)(source).into()
}

impl From<fs::Error> for Error {
    fn from(fs::Error { action, path, source }: fs::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path, source },
            _ => Self::Io { action, path, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let path = Path::new("runs/tiny/model.safetensors");
        let full = io("write", path)(io::ErrorKind::StorageFull.into());
        assert_eq!(
            full.to_string(),
            "no room for runs/tiny/model.safetensors: the disk is full; free some space and repeat the \
             command, or resume the run with train --resume"
        );
        let denied = io("write", path)(io::ErrorKind::PermissionDenied.into());
        assert_eq!(denied.to_string(), "cannot write runs/tiny/model.safetensors");
    }

    #[test]
    fn a_path_in_advice_survives_the_shell() {
        let advice = |path: &str| Error::AllDamaged { path: path.into(), n: 2 }.to_string();
        assert!(advice("runs/tiny-2").ends_with(" --init-from runs/tiny-2"));
        assert!(advice("runs/my run").ends_with(" --init-from 'runs/my run'"));
        let error = Error::NoCheckpoint { path: "it's".into() }.to_string();
        assert!(error.ends_with(r" --init-from 'it'\''s'"), "{error}");
    }
}
