//! Errors of reading and writing run folders.

use std::{
    io,
    path::{Path, PathBuf},
};

use families::{NoFamily, gguf::FileType, quoted};

/// An error of reading or writing a run folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// A verb, such as `write`.
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },

    #[error(
        "cannot write {}: the disk is full; free some space, then repeat the command or resume the run with train --resume", .path.display()
    )]
    DiskFull { path: PathBuf, source: io::Error },

    /// A folder without a model.
    #[error("{} is not a model: it has no {missing}; give a run folder or a folder in Hugging Face layout", .path.display())]
    NotAModel {
        path: PathBuf,
        /// The missing file.
        missing: &'static str,
    },

    /// An adapter trained elsewhere, whose base model is not here.
    #[error(
        "{} is a LoRA adapter of {}, which is not a folder or GGUF file here; download or import that model, and set its \
         path as base_model_name_or_path in {}", .path.display(), .base.display(), .named_in.display()
    )]
    NoBase { path: PathBuf, base: PathBuf, named_in: PathBuf },

    /// An adapter trained here, whose base model was moved or removed.
    #[error(
        "{} is a LoRA adapter of {}, which does not exist; restore it, or if it has moved, set its new path in {}",
        .path.display(), .base.display(), .named_in.display()
    )]
    MissingBase { path: PathBuf, base: PathBuf, named_in: PathBuf },

    /// An adapter without settings of a model, as PEFT writes it, on a GGUF file.
    #[error(
        "{} is a LoRA adapter of the GGUF file {}; give that file as the model, and the adapter with --adapter {}",
        .path.display(), .base.display(), quoted(&.path.display().to_string())
    )]
    GgufBase { path: PathBuf, base: PathBuf },

    /// An adapter that names no base model.
    #[error(
        "{} is a LoRA adapter without the path of its base model; set it as base_model_name_or_path in its \
         adapter_config.json", .path.display()
    )]
    UnnamedBase { path: PathBuf },

    /// An adapter whose base model has changed.
    #[error(
        "the weights of {} are not those that the adapter {} was trained on; restore them. To apply the \
         adapter to other weights, give that model and --adapter",
        .base.display(), .path.display()
    )]
    OtherBase { path: PathBuf, base: PathBuf },

    /// An adapter that is the base of another one, with weights of another type than f32.
    #[error(
        "{} is a LoRA adapter, so its weights can't be kept as {ty}; merge it into a model folder first",
        .path.display()
    )]
    PackedAdapter { path: PathBuf, ty: FileType },

    /// A folder with something other than a supported model.
    #[error("{} {reason}", .path.display())]
    OtherModel {
        path: PathBuf,
        /// The contents of the folder, and how to get a model from it.
        reason: String,
    },

    #[error(transparent)]
    Model(#[from] families::Error),

    #[error("{} already exists; choose another name", .path.display())]
    Exists { path: PathBuf },

    /// Weights that can't be serialised as safetensors.
    #[error("cannot write {}: {reason}", .path.display())]
    Safetensors {
        path: PathBuf,
        /// Not a `source`, because its message already includes its sources.
        reason: safetensors::SafeTensorError,
    },

    /// A weight that is out of range for a 16-bit type.
    #[error("cannot write {}: {key} has the value {value}, which {dtype} cannot represent; choose another --dtype", .path.display())]
    TooLarge {
        path: PathBuf,
        /// The tensor's name.
        key: String,
        value: f32,
        dtype: &'static str,
    },

    /// A model that no Hugging Face architecture can represent.
    #[error("cannot export {}; kindling can still train this model and generate with it", .path.display())]
    NoFamily { path: PathBuf, source: Box<NoFamily> },

    /// A GGUF file that can't be written.
    #[error("cannot write {}", .path.display())]
    Gguf { path: PathBuf, source: formats::gguf::Error },

    /// An architecture option that transformers supports and llama.cpp does not.
    #[error("cannot write {}: {reason}; export it with --format safetensors instead", .path.display())]
    GgufOption { path: PathBuf, reason: String },

    /// A tokenizer that llama.cpp does not support.
    #[error("cannot write {}; export the model with --format safetensors instead", .path.display())]
    GgufTokenizer { path: PathBuf, source: tokenizer::Error },

    /// A missing or damaged tokenizer.
    #[error("cannot load the tokenizer of {}; restore the tokenizer.json that the model was trained with", .path.display())]
    Tokenizer { path: PathBuf, source: tokenizer::Error },

    /// A checkpoint whose files do not match its manifest.
    #[error("the checkpoint {} is damaged: {reason}", .path.display())]
    Damaged { path: PathBuf, reason: String },

    #[error(
        "the checkpoint {} was saved by a newer version of kindling (format {version}); resume with that version", .path.display()
    )]
    NewerCheckpoint { path: PathBuf, version: u32 },

    /// A checkpoint whose weights do not fit the model.
    #[error("cannot read the weights of the checkpoint {}", .path.display())]
    Record { path: PathBuf, source: burn::store::RecordError },

    #[error(
        "all {n} checkpoints of {} are damaged; start a new run from its best weights with train finetune --init-from {}",
        .path.display(), quoted(&.path.display().to_string())
    )]
    AllDamaged { path: PathBuf, n: usize },

    /// The numbers of the reference model of preference tuning.
    #[error("{} can't be used: {reason}; restore it, or start a new run", .path.display())]
    Reference { path: PathBuf, reason: String },

    /// A trained run whose checkpoints are missing.
    #[error(
        "{} has no checkpoint left to resume from; start a new run from its best weights with \
         train finetune --init-from {}", .path.display(), quoted(&.path.display().to_string())
    )]
    NoCheckpoint { path: PathBuf },

    /// A run folder that was moved, removed or replaced during training.
    #[error(
        "the run folder {} was moved, removed or replaced; put it back, then resume from its last checkpoint with \
         --resume", .path.display()
    )]
    Gone { path: PathBuf },

    /// A run that another process is training.
    #[error("{} is in use: {holder} is training it; wait until it ends, or stop it first", .path.display())]
    Locked {
        path: PathBuf,
        /// The process that holds the lock.
        holder: String,
    },
}

impl Error {
    /// Whether the base model of an adapter is missing or has changed, so that no weights of the adapter can be used.
    pub fn is_of_base(&self) -> bool {
        matches!(
            self,
            Self::NoBase { .. }
                | Self::MissingBase { .. }
                | Self::GgufBase { .. }
                | Self::UnnamedBase { .. }
                | Self::OtherBase { .. }
        )
    }
}

/// A result with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Adds the action and the path to an I/O error, for `map_err`.
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
    fn a_full_disk_differs_from_other_failures() {
        let path = Path::new("runs/tiny/model.safetensors");
        let full = io("write", path)(io::ErrorKind::StorageFull.into());
        assert_eq!(
            full.to_string(),
            "cannot write runs/tiny/model.safetensors: the disk is full; free some space, then repeat the \
             command or resume the run with train --resume"
        );
        let denied = io("write", path)(io::ErrorKind::PermissionDenied.into());
        assert_eq!(denied.to_string(), "cannot write runs/tiny/model.safetensors");
    }

    #[test]
    fn paths_in_advised_commands_are_quoted() {
        let advice = |path: &str| Error::AllDamaged { path: path.into(), n: 2 }.to_string();
        assert!(advice("runs/tiny-2").ends_with(" --init-from runs/tiny-2"));
        assert!(advice("runs/my run").ends_with(" --init-from 'runs/my run'"));
        let error = Error::NoCheckpoint { path: "it's".into() }.to_string();
        assert!(error.ends_with(r" --init-from 'it'\''s'"), "{error}");
    }
}
