//! A model and its tokenizer out of a GGUF file.

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
    load::{Memory, load},
    names::Mapped,
};

/// A GGUF file with a model of a known family, whose weights are read when they are asked for.
///
/// It is opened where it is, and nothing is written to it.
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
    /// Opens a file: its sizes, its tokenizer and where its weights are.
    ///
    /// # Errors
    ///
    /// If the file can't be read, is damaged, or has a model or a tokenizer that is not supported.
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
        for (key, id) in Vocabulary::keys_beyond(&file) {
            tracing::warn!(
                "{}: `{key}` is {id}, and there are {} tokens; it counts as none",
                path.display(),
                vocabulary.tokens.len()
            );
        }
        let tokenizer = Tokenizer::from_gguf(&vocabulary)
            .map_err(|source| Error::GgufVocabulary { path: path.to_owned(), source })?
            .limited_to(model.config.vocab_size);
        let companions = Companions::of_gguf(&file, &tokenizer);
        model.config.check().map_err(|source| Error::GgufSizes {
            path: path.to_owned(),
            reason: in_keys_of_gguf(&source, model.family),
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
            special_tokens: SpecialTokens {
                bos: vocabulary.begin_of_text,
                eos: vocabulary.ends_of_text,
                companions,
            },
            weights: Weights::of(path, tensors),
            weight_types,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What llama.cpp calls such a model.
    pub fn architecture(&self) -> &'static str {
        self.model.family.architecture
    }

    /// What its tensors are stored as, each with how many are.
    pub fn weight_types(&self) -> &BTreeMap<String, usize> {
        &self.weight_types
    }

    /// The sizes of the model.
    pub fn config(&self) -> &GptConfig {
        &self.model.config
    }

    /// The tokenizer, with the ids of llama.cpp.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The special tokens.
    pub fn special_tokens(&self) -> &SpecialTokens {
        &self.special_tokens
    }

    /// The model, its weights unpacked to f32.
    ///
    /// # Errors
    ///
    /// If a weight is not finite.
    pub fn load_model(&self, device: &Device) -> Result<Gpt> {
        let GgufModel { family, config, without_bias } = &self.model;
        load(config, self.weights.clone(), &family.names, *without_bias, Memory::Own, device)
    }
}

/// The tensors by their keys in Hugging Face's layout.
fn tensors(path: &Path, mapping: &Arc<Map>, file: &Gguf<'_>, model: &GgufModel) -> BTreeMap<String, Tensor> {
    let head_dim = model.config.head_dim();
    let tensor = |tensor: &TensorView<'_>| {
        let Mapped { name: key, stored } = model
            .family
            .names
            .key_of_gguf(tensor.name)
            .expect("a model has no other tensors: its sizes were read");
        let shape = stored.shape(&tensor.dims);
        let (mapping, range, ty) = (mapping.clone(), range(mapping, tensor.bytes), tensor.ty);
        let unpack = move || unpacked(&mapping[range.clone()], ty);
        let hugging_face_shape = shape.clone();
        let arrange = move |numbers| stored.undo(numbers, &hugging_face_shape, head_dim);
        // By the name that the file has for it, which errors name.
        let tensor = Tensor::packed(path, tensor.name, shape, unpack, arrange);
        (key, tensor)
    };
    file.tensors().iter().map(tensor).collect()
}

/// What is wrong with sizes, by the names that a GGUF file has for them.
fn in_keys_of_gguf(error: &ConfigError, family: &Family) -> String {
    match error {
        ConfigError::BlockTooLong(length) => {
            format!("`{}.context_length` = {length} is longer than any model here", family.architecture)
        }
        // All other sizes were looked at when they were read, or are not named.
        error => error.to_string(),
    }
}

/// Where a part of some bytes lies in them.
fn range(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

fn unpacked(bytes: &[u8], ty: TensorType) -> Vec<f32> {
    TensorView { name: "", dims: Vec::new(), ty, bytes }.to_f32()
}
