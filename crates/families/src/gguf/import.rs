//! Import of a model and its tokenizer from a GGUF file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use burn::prelude::Device;
use bytes::Bytes;
use formats::{
    gguf::{self, Gguf, TensorType, TensorView, Vocabulary, part_paths},
    refuse_lfs_pointer,
    weights::{Stored, Tensor, Weights},
};
use fs::Map;
use model::{ConfigError, Gpt, GptConfig};
use tokenizer::{Companions, SpecialTokens, Tokenizer};

use super::read::GgufModel;
use crate::{
    Error, Result,
    error::io,
    family::Family,
    load::{WeightStorage, load},
    names::Mapped,
};

/// An open GGUF file with a model of a supported family. Weights are read on demand; the file is never written.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    model: GgufModel,
    tokenizer: Tokenizer,
    special_tokens: SpecialTokens,
    weights: Weights,
    weight_types: BTreeMap<TensorType, WeightType>,
    size_bytes: u64,
}

/// The tensors of one storage type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WeightType {
    pub n_tensors: usize,
    /// The size of all these tensors.
    pub n_bytes: u64,
}

impl GgufFile {
    /// Opens a file, and the other parts of a split model, and reads its metadata and tokenizer.
    ///
    /// # Errors
    ///
    /// If a file is missing, unreadable or damaged, or its model or tokenizer is not supported.
    pub fn open(path: &Path) -> Result<Self> {
        let failed =
            |source: gguf::Error| Error::Gguf { path: path.to_owned(), source: Box::new(source.into()) };
        let maps = open_parts(path)?;
        let parts = maps.iter().map(|(path, map)| {
            Gguf::parse(map)
                .map_err(|source| Error::Gguf { path: path.clone(), source: Box::new(source.into()) })
        });
        let file = Gguf::join(parts.collect::<Result<_>>()?).map_err(failed)?;
        let model = GgufModel::read(&file)
            .map_err(|source| Error::Gguf { path: path.to_owned(), source: Box::new(source) })?;
        let vocabulary = Vocabulary::read(&file).map_err(failed)?;
        for (key, id) in Vocabulary::out_of_range_keys(&file) {
            tracing::warn!(
                "{}: ignoring `{key}` = {id}; the vocabulary has only {} tokens",
                path.display(),
                vocabulary.tokens.len()
            );
        }
        let tokenizer = Tokenizer::from_gguf(&vocabulary)
            .map_err(|source| Error::GgufVocabulary { path: path.to_owned(), source })?
            .limited_to(model.config.vocab_size);
        let companions = Companions::from_gguf(&file, &tokenizer);
        model.config.check().map_err(|source| Error::GgufSizes {
            path: path.to_owned(),
            reason: with_gguf_keys(&source, model.family),
        })?;
        let tensors = tensors(&maps, &file, &model);
        let mut weight_types: BTreeMap<TensorType, WeightType> = BTreeMap::new();
        for tensor in file.tensors() {
            let WeightType { n_tensors, n_bytes } = weight_types.entry(tensor.ty).or_default();
            *n_tensors += 1;
            *n_bytes += tensor.bytes.len() as u64;
        }
        Ok(Self {
            path: path.to_owned(),
            model,
            tokenizer,
            special_tokens: SpecialTokens { bos: vocabulary.bos, eos: vocabulary.eos, companions },
            weights: Weights::from_tensors(path, tensors),
            weight_types,
            size_bytes: maps.iter().map(|(_, map)| map.len() as u64).sum(),
        })
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The size of all files of the model, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// `general.architecture`.
    pub fn architecture(&self) -> &'static str {
        self.model.family.architecture
    }

    /// The tensors of each storage type.
    pub fn weight_types(&self) -> &BTreeMap<TensorType, WeightType> {
        &self.weight_types
    }

    /// The sizes of the model.
    pub fn config(&self) -> &GptConfig {
        &self.model.config
    }

    /// The tokenizer; its ids match llama.cpp.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The BOS and EOS tokens and the companion data.
    pub fn special_tokens(&self) -> &SpecialTokens {
        &self.special_tokens
    }

    /// Loads the model.
    ///
    /// # Errors
    ///
    /// If a weight is not finite, or `storage` can't represent one.
    pub fn load_model(&self, storage: WeightStorage, device: &Device) -> Result<Gpt> {
        let GgufModel { family, config, without_bias } = &self.model;
        load(config, self.weights.clone(), &family.names, *without_bias, storage, device)
    }
}

/// Missing parts that an error names.
const SHOWN: usize = 3;

/// Maps all parts of a model, in order; one part for a model that is not split.
fn open_parts(path: &Path) -> Result<Vec<(PathBuf, Bytes)>> {
    let paths = part_paths(path);
    let is_missing = |part: &&PathBuf| *part != path && !part.exists();
    let name = |part: &PathBuf| part.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut missing: Vec<String> = paths.iter().filter(is_missing).map(name).collect();
    let n_more = missing.len().saturating_sub(SHOWN);
    if n_more > 0 {
        missing.truncate(SHOWN);
        missing.push(format!("{n_more} more"));
    }
    if !missing.is_empty() {
        let source = super::Error::MissingParts { count: paths.len(), missing };
        return Err(Error::Gguf { path: path.to_owned(), source: Box::new(source) });
    }
    let open = |path: PathBuf| {
        refuse_lfs_pointer(&path)?;
        let map = Bytes::from_owner(Map::open(&path).map_err(io("open", &path))?);
        if map.is_empty() {
            return Err(Error::Gguf { path, source: Box::new(gguf::Error::Empty.into()) });
        }
        Ok((path, map))
    };
    paths.into_iter().map(open).collect()
}

/// The tensors by their Hugging Face keys.
fn tensors(maps: &[(PathBuf, Bytes)], file: &Gguf<'_>, model: &GgufModel) -> BTreeMap<String, Tensor> {
    let head_dim = model.config.head_dim();
    let tensor = |tensor: &TensorView<'_>| {
        let Mapped { name: key, stored } =
            model.family.names.key_from_gguf(tensor.name).expect("GgufModel::read refuses other tensors");
        let shape = stored.shape(&tensor.dims);
        let (path, bytes) = located(maps, tensor.bytes);
        let ty = tensor.ty;
        let packed = bytes.clone();
        let unpack = move || decoded(&packed, ty);
        let hugging_face_shape = shape.clone();
        let arrange = move |values| stored.undo(values, &hugging_face_shape, head_dim);
        let hugging_face_shape = shape.clone();
        let as_stored = move || {
            let (bytes, is_transposed) = stored.undo_rows(&bytes, &hugging_face_shape, head_dim);
            Stored { bytes, format: ty.format(), is_transposed }
        };
        // Errors report the name in the file.
        let tensor = Tensor::packed(path, tensor.name, shape, unpack, arrange);
        (key, tensor.with_stored(as_stored))
    };
    file.tensors().iter().map(tensor).collect()
}

/// The message for invalid sizes, with GGUF keys.
fn with_gguf_keys(error: &ConfigError, family: &Family) -> String {
    match error {
        ConfigError::BlockTooLong(length) => {
            format!("`{}.context_length` = {length} is too long", family.architecture)
        }
        // All other sizes were checked when they were read, or have no key.
        error => error.to_string(),
    }
}

/// The file that contains `bytes`, and a shared view of them.
fn located<'a>(maps: &'a [(PathBuf, Bytes)], bytes: &[u8]) -> (&'a Path, Bytes) {
    let start_in = |map: &[u8]| bytes.as_ptr().addr().checked_sub(map.as_ptr().addr());
    let found = maps.iter().find_map(|(path, map)| {
        let start = start_in(map).filter(|&start| start + bytes.len() <= map.len())?;
        Some((path.as_path(), map.slice(start..start + bytes.len())))
    });
    found.expect("a tensor is in one of the files")
}

fn decoded(bytes: &[u8], ty: TensorType) -> Vec<f32> {
    TensorView { name: "", dims: Vec::new(), ty, bytes }.to_f32()
}
