//! A model and its tokenizer out of a GGUF file.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use ::gguf::{self, Config, Gguf, Mapped, TensorType, TensorView, Vocabulary};
use ::weights::{Tensor, Weights, refuse_lfs_pointer};
use burn::prelude::Device;
use fs::Map;
use model::{Activation, ConfigError, Gpt, GptConfig, NormKind, Position};
use tokenizer::Tokenizer;

use super::architecture;
use crate::{
    Companions, Error, Marks, Result, error::io, hugging_face::llama, layout::Layout, weights::load,
};

/// A GGUF file with a GPT-2, a Llama or a Qwen3, whose weights are read when they are asked for.
///
/// It is opened where it is, and nothing is written to it.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    layout: Layout,
    config: GptConfig,
    tokenizer: Tokenizer,
    marks: Marks,
    weights: Weights,
    architecture: &'static str,
    without_bias: Option<&'static str>,
    weight_types: BTreeMap<String, usize>,
}

impl GgufFile {
    /// Opens a file: its sizes, its tokenizer and where its weights are.
    ///
    /// # Errors
    ///
    /// If the file can't be read, is damaged, or has a model or a tokenizer that is not supported.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |source: gguf::Error| Error::GgufRead { path: path.to_owned(), source };
        refuse_lfs_pointer(path)?;
        let mapping = Arc::new(Map::open(path).map_err(io("open", path))?);
        if mapping.is_empty() {
            return Err(failed(gguf::Error::Empty));
        }
        let file = Gguf::parse(&mapping).map_err(failed)?;
        let sizes = Config::read(&file).map_err(failed)?;
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
            .limited_to(sizes.vocab_size as usize);
        let companions = Companions::of_gguf(&file, &tokenizer);
        let config = model_config(&sizes);
        config.check().map_err(|source| Error::GgufSizes {
            path: path.to_owned(),
            reason: in_keys_of_gguf(&source, sizes.architecture),
        })?;
        let tensors = tensors(path, &mapping, &file, &sizes);
        let mut weight_types = BTreeMap::new();
        for tensor in file.tensors() {
            *weight_types.entry(tensor.ty.to_string()).or_default() += 1;
        }
        Ok(Self {
            path: path.to_owned(),
            layout: Layout::HuggingFace(architecture(sizes.architecture)),
            config,
            tokenizer,
            marks: Marks { begin: vocabulary.begin_of_text, ends: vocabulary.ends_of_text, companions },
            weights: Weights::of(path, tensors),
            architecture: sizes.architecture.name(),
            without_bias: match (sizes.biases.attention, sizes.biases.feed_forward) {
                (true, false) => Some(llama::FEED_FORWARD),
                (false, true) => Some(llama::ATTENTION),
                _ => None,
            },
            weight_types,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What llama.cpp calls such a model.
    pub fn architecture(&self) -> &'static str {
        self.architecture
    }

    /// What its tensors are stored as, each with how many are.
    pub fn weight_types(&self) -> &BTreeMap<String, usize> {
        &self.weight_types
    }

    /// The sizes of the model.
    pub fn config(&self) -> &GptConfig {
        &self.config
    }

    /// The tokenizer, with the ids of llama.cpp.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The tokens at which a text begins and ends.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// The model, its weights unpacked to f32.
    ///
    /// # Errors
    ///
    /// If a weight is not finite.
    pub fn load_model(&self, device: &Device) -> Result<Gpt> {
        load(&self.config, self.weights.clone(), self.layout, self.without_bias, device)
    }
}

/// The tensors by their keys in Hugging Face's layout.
fn tensors(path: &Path, mapping: &Arc<Map>, file: &Gguf<'_>, sizes: &Config) -> BTreeMap<String, Tensor> {
    let head_dim = sizes.key_length as usize;
    let tensor = |tensor: &TensorView<'_>| {
        let Mapped { name: key, stored } =
            sizes.architecture.key(tensor.name).expect("a model has no other tensors: its sizes were read");
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
fn in_keys_of_gguf(error: &ConfigError, architecture: gguf::Architecture) -> String {
    match error {
        ConfigError::BlockTooLong(length) => {
            format!("`{architecture}.context_length` = {length} is longer than any model here")
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

fn model_config(sizes: &Config) -> GptConfig {
    let is_rotary = sizes.architecture.is_rotary();
    let (n_embd, n_head) = (sizes.embedding_length as usize, sizes.head_count as usize);
    let (n_kv_head, head_dim) = (sizes.head_count_kv as usize, sizes.key_length as usize);
    let config = GptConfig {
        vocab_size: sizes.vocab_size as usize,
        block_size: sizes.context_length as usize,
        n_layer: sizes.block_count as usize,
        n_head,
        n_kv_head: Some(n_kv_head).filter(|&n_kv_head| n_kv_head != n_head),
        n_embd,
        head_dim: Some(head_dim).filter(|head_dim| Some(n_embd) != head_dim.checked_mul(n_head)),
        n_inner: None,
        dropout: 0.0,
        bias: !is_rotary || sizes.biases.attention || sizes.biases.feed_forward,
        tie_embeddings: sizes.tied,
        activation: if is_rotary { Activation::Swiglu } else { Activation::GeluTanh },
        position: if is_rotary { Position::Rope } else { Position::Learned },
        rope_theta: shortest(sizes.rope_freq_base),
        norm: if is_rotary { NormKind::RmsNorm } else { NormKind::LayerNorm },
        norm_epsilon: shortest(sizes.norm_epsilon),
        qk_norm: sizes.architecture == gguf::Architecture::Qwen3,
        zero_init: false,
    };
    // A width that follows from the others is left to them, as in a recipe.
    let n_inner = sizes.feed_forward_length as usize;
    let n_inner = Some(n_inner).filter(|&n_inner| config.n_inner() != n_inner);
    GptConfig { n_inner, ..config }
}

/// The number that was meant: 1e-5 where the nearest of single precision is 0.000009999999747378752.
fn shortest(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(number.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_single_precision_are_those_that_were_meant() {
        assert_eq!(shortest(1e-5), 1e-5);
        assert_eq!(shortest(1e6), 1e6);
        assert_eq!(shortest(f32::MIN_POSITIVE), 1.175_494_4e-38);
    }
}
