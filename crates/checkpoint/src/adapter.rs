//! Folders with a LoRA adapter instead of weights. The adapter names its base model, and both together are the model.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ::fs::atomic;
use burn::prelude::Device;
use families::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, AdapterConfig, WeightStorage, gguf::FileType, with_adapter};
use formats::weights::Weights;
use model::Gpt;

use crate::{
    Base, Error, Result, RunFolder,
    adapter_base::{AdapterBase, sha256_of_files},
    folder::WEIGHTS,
};

/// The file with the base model of an adapter trained here.
const BASE: &str = "base.json";

impl RunFolder {
    /// Whether the folder has an adapter instead of weights.
    pub fn is_adapter(&self) -> bool {
        self.path().join(ADAPTER_CONFIG).is_file() && Weights::find(self.path()).is_none()
    }

    /// Writes the settings of an adapter, and its base.
    ///
    /// # Errors
    ///
    /// If a file can't be written.
    pub fn save_adapter_description(&self, config: &AdapterConfig, base: &Base) -> Result<()> {
        let json = serde_json::to_string_pretty(base).expect("a base is a path and a checksum") + "\n";
        atomic::write_file(&self.path().join(BASE), json.as_bytes())?;
        Ok(atomic::write_file(&self.path().join(ADAPTER_CONFIG), config.to_json().as_bytes())?)
    }

    /// The folder of the base model of an adapter that PEFT wrote.
    ///
    /// # Errors
    ///
    /// If the base is not a folder on this machine.
    pub(crate) fn base_folder(&self) -> Result<Self> {
        match self.base()? {
            AdapterBase::Folder(folder) => Ok(folder),
            AdapterBase::Gguf(base) => Err(Error::GgufBase { path: self.path().to_owned(), base }),
        }
    }

    /// The base model of an adapter.
    ///
    /// # Errors
    ///
    /// If the base is not on this machine.
    fn base(&self) -> Result<AdapterBase> {
        let recorded = self.recorded_base()?;
        let by_peft = AdapterConfig::read(self.path())?.base_model_name_or_path.map(PathBuf::from);
        let named = recorded.iter().map(|base| base.path.clone()).chain(by_peft);
        // A relative path may also start beside the adapter.
        let beside = |path: PathBuf| [self.path().parent().map(|parent| parent.join(&path)), Some(path)];
        for path in named.flat_map(beside).flatten() {
            if let Some(found) = AdapterBase::open(&path)? {
                return Ok(found);
            }
        }
        // Both may have moved together.
        if let (Some(base), Some(parent)) = (&recorded, self.path().parent())
            && let Some(sibling) = base.path.file_name().map(|name| parent.join(name))
            && let Ok(Some(found)) = AdapterBase::open(&sibling)
            && found.weights_sha256()? == base.sha256
        {
            return Ok(found);
        }
        Err(self.without_base(self.named_base()?, recorded.map_or(ADAPTER_CONFIG, |_| BASE)))
    }

    /// The path of the base model by `base.json`, or by the settings of PEFT. It may not exist.
    ///
    /// # Errors
    ///
    /// If a file can't be read, or names no base.
    pub fn named_base(&self) -> Result<PathBuf> {
        if let Some(base) = self.recorded_base()? {
            return Ok(base.path);
        }
        let config = AdapterConfig::read(self.path())?;
        let unnamed = || Error::UnnamedBase { path: self.path().to_owned() };
        config.base_model_name_or_path.map(PathBuf::from).ok_or_else(unnamed)
    }

    /// The error for a base that is not on this machine, and the file that names it.
    fn without_base(&self, base: PathBuf, named_in: &'static str) -> Error {
        let (path, named_in) = (self.path().to_owned(), self.path().join(named_in));
        match named_in.ends_with(BASE) {
            true => Error::MissingBase { path, base, named_in },
            false => Error::NoBase { path, base, named_in },
        }
    }

    fn recorded_base(&self) -> Result<Option<Base>> {
        let path = self.path().join(BASE);
        let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
        let base = serde_json::from_str(&text)
            .map_err(|source| families::Error::Json { path: path.clone(), source })?;
        Ok(Some(base))
    }

    /// The base model. It must have the weights on which the adapter was trained, if these are recorded.
    fn checked_base(&self) -> Result<AdapterBase> {
        let base = self.base()?;
        match self.recorded_base()? {
            Some(recorded) if base.weights_sha256()? != recorded.sha256 => {
                Err(Error::OtherBase { path: self.path().to_owned(), base: recorded.path })
            }
            _ => Ok(base),
        }
    }

    pub(crate) fn weights_sha256(&self) -> Result<String> {
        if self.is_adapter() {
            let sums = [sha256_of_files(&[self.weights_file()])?, self.base()?.weights_sha256()?];
            return Ok(::fs::sha256_hex(sums.concat().as_bytes()));
        }
        let Some(path) = Weights::find(self.path()) else {
            return Err(Error::NotAModel { path: self.path().to_owned(), missing: WEIGHTS });
        };
        let weights = Weights::open(&path).map_err(families::Error::from)?;
        let mut files: Vec<PathBuf> =
            weights.names().filter_map(|name| Some(weights.get(name)?.path().to_owned())).collect();
        files.sort();
        files.dedup();
        sha256_of_files(&files)
    }

    /// Loads the base model and the adapter of a file. Owned weights have the updates added; otherwise the updates stay
    /// separate.
    pub(crate) fn load_with_base(
        &self,
        adapter: &Path,
        storage: WeightStorage,
        device: &Device,
    ) -> Result<Gpt> {
        let updated = self.load_updated(adapter, storage, device)?;
        Ok(if storage == WeightStorage::Owned { updated.merged() } else { updated })
    }

    /// Loads the base model and the adapter, as separate updates that can be trained.
    ///
    /// # Errors
    ///
    /// As [`RunFolder::load_model`].
    pub fn load_adapter_model(&self, storage: WeightStorage, device: &Device) -> Result<Gpt> {
        self.load_updated(&self.path().join(ADAPTER_WEIGHTS), storage, device)
    }

    fn load_updated(&self, adapter: &Path, storage: WeightStorage, device: &Device) -> Result<Gpt> {
        let model = self.checked_base()?.load(storage, device)?;
        let block_size = self.config()?.block_size.min(model.config().block_size);
        Ok(with_adapter(model.with_block_size(block_size), self.path(), adapter, device)?)
    }

    /// Checks that the model can be the base of an adapter with this storage of its weights, without loading them.
    ///
    /// # Errors
    ///
    /// If the model is an adapter itself, and its weights should have fewer bits than f32.
    pub fn check_is_base(&self, storage: WeightStorage) -> Result<()> {
        match storage {
            WeightStorage::Quantised(ty) if ty != FileType::F32 && self.is_adapter() => {
                Err(Error::PackedAdapter { path: self.path().to_owned(), ty })
            }
            _ => Ok(()),
        }
    }

    /// Loads the model as the base of an adapter. If it is an adapter itself, its updates are added to its weights.
    ///
    /// # Errors
    ///
    /// As [`RunFolder::load_model`], or if an adapter's weights should have fewer bits than f32.
    pub fn load_as_base(&self, storage: WeightStorage, device: &Device) -> Result<Gpt> {
        AdapterBase::Folder(self.clone()).load(storage, device)
    }

    /// The file of the kept weights, or of the kept adapter.
    pub(crate) fn weights_file(&self) -> PathBuf {
        self.path().join(if self.is_adapter() { ADAPTER_WEIGHTS } else { WEIGHTS })
    }
}
