//! Import of a model and its tokenizer from a GGUF file.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use burn::prelude::Device;
use formats::{
    gguf::{self, Gguf, TensorType, TensorView, Vocabulary},
    refuse_lfs_pointer,
    weights::{Tensor, Weights},
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
    weight_types: BTreeMap<String, usize>,
}

impl GgufFile {
    /// Opens a file and reads its metadata and tokenizer.
    ///
    /// # Errors
    ///
    /// If the file is unreadable or damaged, or its model or tokenizer is not supported.
    pub fn open(path: &Path) -> Result<Self> {
        let failed =
            |source: gguf::Error| Error::Gguf { path: path.to_owned(), source: Box::new(source.into()) };
        refuse_lfs_pointer(path)?;
        let mapping = Arc::new(Map::open(path).map_err(io("open", path))?);
        if mapping.is_empty() {
            return Err(failed(gguf::Error::Empty));
        }
        let file = Gguf::parse(&mapping).map_err(failed)?;
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
        let tensors = tensors(path, &mapping, &file, &model);
        let mut weight_types = BTreeMap::new();
        for tensor in file.tensors() {
            *weight_types.entry(tensor.ty.to_string()).or_default() += 1;
        }
        Ok(Self {
            path: path.to_owned(),
            model,
            tokenizer,
            special_tokens: SpecialTokens { bos: vocabulary.bos, eos: vocabulary.eos, companions },
            weights: Weights::from_tensors(path, tensors),
            weight_types,
        })
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `general.architecture`.
    pub fn architecture(&self) -> &'static str {
        self.model.family.architecture
    }

    /// The number of tensors of each storage type.
    pub fn weight_types(&self) -> &BTreeMap<String, usize> {
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

    /// Loads the model with its weights decoded to f32.
    ///
    /// # Errors
    ///
    /// If a weight is not finite.
    pub fn load_model(&self, device: &Device) -> Result<Gpt> {
        let GgufModel { family, config, without_bias } = &self.model;
        load(config, self.weights.clone(), &family.names, *without_bias, WeightStorage::Owned, device)
    }
}

/// The tensors by their Hugging Face keys.
fn tensors(path: &Path, mapping: &Arc<Map>, file: &Gguf<'_>, model: &GgufModel) -> BTreeMap<String, Tensor> {
    let head_dim = model.config.head_dim();
    let tensor = |tensor: &TensorView<'_>| {
        let Mapped { name: key, stored } =
            model.family.names.key_from_gguf(tensor.name).expect("GgufModel::read refuses other tensors");
        let shape = stored.shape(&tensor.dims);
        let (mapping, range, ty) = (mapping.clone(), range(mapping, tensor.bytes), tensor.ty);
        let unpack = move || decoded(&mapping[range.clone()], ty);
        let hugging_face_shape = shape.clone();
        let arrange = move |values| stored.undo(values, &hugging_face_shape, head_dim);
        // Errors report the name in the file.
        let tensor = Tensor::packed(path, tensor.name, shape, unpack, arrange);
        (key, tensor)
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

/// The range of `part` within `whole`.
fn range(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

fn decoded(bytes: &[u8], ty: TensorType) -> Vec<f32> {
    TensorView { name: "", dims: Vec::new(), ty, bytes }.to_f32()
}
