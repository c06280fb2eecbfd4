//! LoRA adapters that are named apart from their base models.

use std::{fmt, path::Path};

use burn::prelude::Device;
use checkpoint::RunFolder;
use families::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, gguf::GgufAdapter, with_adapter};
use model::Gpt;

use crate::{Error, Models, Result, is_gguf};

/// A LoRA adapter for a base model.
#[derive(Debug)]
pub enum Adapter {
    /// A run of `train lora`, or a folder of PEFT.
    Folder(RunFolder),
    Gguf(GgufAdapter),
}

impl Models {
    /// Finds an adapter by path or name, without reading its matrices.
    ///
    /// # Errors
    ///
    /// If it is not an adapter.
    pub fn open_adapter(&self, path: &Path) -> Result<Adapter> {
        if is_gguf(path) {
            return Ok(Adapter::Gguf(GgufAdapter::open(path)?));
        }
        let folder = self.resolve(path);
        let has = |name: &str| folder.join(name).is_file();
        if !has(ADAPTER_CONFIG) || !has(ADAPTER_WEIGHTS) {
            return Err(Error::NotAnAdapter { path: folder });
        }
        Ok(Adapter::Folder(RunFolder::open(&folder)?))
    }
}

impl Adapter {
    /// The model with the updates of the adapter, separate from its weights.
    ///
    /// # Errors
    ///
    /// If a file is damaged, or the adapter belongs to another model.
    pub fn add_to(&self, model: Gpt, device: &Device) -> Result<Gpt> {
        Ok(match self {
            Self::Folder(folder) => {
                with_adapter(model, folder.path(), &folder.path().join(ADAPTER_WEIGHTS), device)?
            }
            Self::Gguf(file) => file.add_to(model, device)?,
        })
    }
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match self {
            Self::Folder(folder) => folder.path(),
            Self::Gguf(file) => file.path(),
        };
        path.display().fmt(f)
    }
}
