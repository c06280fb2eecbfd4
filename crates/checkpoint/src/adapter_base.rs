//! The model below an adapter: a folder, or a GGUF file.

use std::path::{Path, PathBuf};

use ::fs::{sha256_hex, sha256_of_file};
use burn::prelude::Device;
use families::{WeightStorage, gguf::GgufFile};
use formats::gguf::part_paths;
use model::Gpt;
use serde::{Deserialize, Serialize};

use crate::{Result, RunFolder, error::io};

/// The base model of an adapter, as `base.json` names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// The folder of the model, or its GGUF file.
    pub path: PathBuf,
    /// SHA-256 of its weights, in hexadecimal digits. Several files are joined in the order of their names.
    pub sha256: String,
}

impl Base {
    /// Describes a base model in a folder, and reads its weights for their checksum.
    ///
    /// # Errors
    ///
    /// If the folder has no weights, or they can't be read.
    pub fn of_folder(folder: &RunFolder) -> Result<Self> {
        Self::of(&AdapterBase::Folder(folder.clone()))
    }

    /// Like [`Base::of_folder`], for a GGUF file.
    ///
    /// # Errors
    ///
    /// If the file can't be read.
    pub fn of_gguf(file: &Path) -> Result<Self> {
        Self::of(&AdapterBase::Gguf(file.to_owned()))
    }

    fn of(base: &AdapterBase) -> Result<Self> {
        let path = base.path().canonicalize().map_err(io("find", base.path()))?;
        Ok(Self { path, sha256: base.weights_sha256()? })
    }
}

/// A base model that was found.
pub(crate) enum AdapterBase {
    Folder(RunFolder),
    Gguf(PathBuf),
}

impl AdapterBase {
    /// The model with this path: a folder, or a file of GGUF. `None` if there is nothing.
    ///
    /// # Errors
    ///
    /// If it is a folder without a model.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>> {
        Ok(match path {
            _ if path.is_dir() => Some(Self::Folder(RunFolder::open(path)?)),
            _ if path.is_file() => Some(Self::Gguf(path.to_owned())),
            _ => None,
        })
    }

    fn path(&self) -> &Path {
        match self {
            Self::Folder(folder) => folder.path(),
            Self::Gguf(path) => path,
        }
    }

    /// Loads the model. If it is an adapter itself, its updates are added to its weights.
    ///
    /// # Errors
    ///
    /// As [`RunFolder::load_model`], or if an adapter's weights should have fewer bits than f32.
    pub(crate) fn load(&self, storage: WeightStorage, device: &Device) -> Result<Gpt> {
        match (self, storage) {
            (Self::Gguf(path), _) => Ok(GgufFile::open(path)?.load_model(storage, device)?),
            (Self::Folder(folder), _) if !folder.is_adapter() => folder.load_model_with(storage, device),
            (Self::Folder(folder), _) => {
                folder.check_is_base(storage)?;
                folder.load_model_with(WeightStorage::Owned, device)
            }
        }
    }

    /// SHA-256 of the weights.
    pub(crate) fn weights_sha256(&self) -> Result<String> {
        match self {
            Self::Folder(folder) => folder.weights_sha256(),
            Self::Gguf(path) => sha256_of_files(&part_paths(path)),
        }
    }
}

/// SHA-256 of a file, or of the checksums of several.
pub(crate) fn sha256_of_files(files: &[PathBuf]) -> Result<String> {
    let read = |file: &PathBuf| sha256_of_file(file, |_| ()).map_err(io("read", file));
    let sums = files.iter().map(read).collect::<Result<Vec<_>>>()?;
    Ok(match &sums[..] {
        [one] => one.clone(),
        _ => sha256_hex(sums.concat().as_bytes()),
    })
}
