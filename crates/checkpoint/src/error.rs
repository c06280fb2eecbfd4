//! Why a run folder could not be read or written.

use std::{
    io,
    path::{Path, PathBuf},
};

use families::{NoFamily, quoted};

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
        /// The folder.
        path: PathBuf,
        /// What it holds, and the way to a model.
        reason: String,
    },

    /// A model that can't be read.
    #[error(transparent)]
    Model(#[from] families::Error),

    /// A new run would write over something.
    #[error("{} already exists; choose another name", .path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },

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

    /// A model that other programs have no place for.
    #[error("cannot write {}; its run can still be trained and written with", .path.display())]
    NoFamily {
        /// What was to be written.
        path: PathBuf,
        /// Which parts.
        source: Box<NoFamily>,
    },

    /// A model that can't be a GGUF file, or not this one.
    #[error("cannot write {}", .path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// Why.
        source: formats::gguf::Error,
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

    /// A checkpoint that this version can't read.
    #[error(
        "the checkpoint {} was saved by a newer version of kindling (format {version}); resume with that version", .path.display()
    )]
    NewerCheckpoint {
        /// The checkpoint's folder.
        path: PathBuf,
        /// The version of its format.
        version: u32,
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
