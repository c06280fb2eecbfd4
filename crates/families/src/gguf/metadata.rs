//! The metadata and the tensors of a model in a GGUF file.
//!
//! Keys and names follow llama.cpp's `convert_hf_to_gguf.py` (its `conversion/gpt2.py`, `llama.py` and `qwen.py`). Its
//! `src/models` and `src/llama-vocab.cpp` have these requirements and limits:
//!
//! - All tensors must be present, including biases (zeros if the model has none). Only `output.weight` is optional; the
//!   token embedding replaces it.
//! - `token_embd.weight` needs as many rows as the vocabulary has tokens ([`Vocabulary::pad`]), and
//!   `position_embd.weight` as many as `gpt2.context_length`.
//! - llama.cpp aborts at the first token beyond the context of a GPT-2. It rounds the requested context up to a
//!   multiple of 256, so for a shorter one the number of tokens must be limited.
//! - The activation of a GPT-2 is always the tanh form of GELU, and the attention scale always `1/√d`. On a CPU, GELU
//!   is looked up in half precision, so logits agree to about three digits even with `f32` weights.

use formats::gguf::{Error, Result, TensorInfo, Value, Vocabulary};
use model::{GptConfig, NormKind, Position};

use super::file_type::FileType;
use crate::family::Family;

/// The version of ggml's block formats, `GGML_QUANT_VERSION`.
const QUANTIZATION_VERSION: u32 = 2;

/// The metadata of a model called `name` in a file of type `ty`, in the converter's order.
///
/// # Errors
///
/// If llama.cpp would not load the vocabulary, or its size differs from the embedding.
///
/// # Panics
///
/// If a size is 2^32 or more.
pub fn metadata(
    config: &GptConfig,
    family: &Family,
    name: &str,
    ty: FileType,
    vocabulary: &Vocabulary,
) -> Result<Vec<(String, Value)>> {
    let n_tokens = vocabulary.tokens.len();
    if n_tokens != config.vocab_size {
        let reason = format!("it has {n_tokens} tokens, but the embedding has {} rows", config.vocab_size);
        return Err(Error::Vocabulary { reason });
    }
    let is_rotary = config.position.kind == Position::Rope;
    let size = |size: usize| Value::U32(u32::try_from(size).expect("a model's sizes are below 2^32"));
    let mut keys: Vec<(String, Value)> = Vec::new();
    let mut push = |key: &str, value: Value| keys.push((key.to_owned(), value));
    push("general.architecture", family.architecture.into());
    push("general.type", "model".into());
    push("general.name", name.into());
    let arch = |key: &str| format!("{}.{key}", family.architecture);
    push(&arch("block_count"), size(config.n_layer));
    push(&arch("context_length"), size(config.block_size));
    push(&arch("embedding_length"), size(config.n_embd));
    push(&arch("feed_forward_length"), size(config.n_inner()));
    push(&arch("attention.head_count"), size(config.attention.n_head));
    if is_rotary {
        push(&arch("attention.head_count_kv"), size(config.n_kv_head()));
        push(&arch("rope.freq_base"), single(config.position.rope_theta).into());
    }
    push(&arch(epsilon_key(config.norm.kind)), single(config.norm.epsilon).into());
    if is_rotary {
        push(&arch("attention.key_length"), size(config.head_dim()));
        push(&arch("attention.value_length"), size(config.head_dim()));
    }
    push("general.file_type", ty.code().into());
    for (key, value) in (family.extra_gguf_keys)(config) {
        push(&arch(key), size(value));
    }
    push("general.quantization_version", QUANTIZATION_VERSION.into());
    keys.extend(vocabulary.metadata()?);
    Ok(keys)
}

/// The tensors that llama.cpp loads, in the order of the forward pass, with the types of a file of type `ty`.
pub fn tensors(config: &GptConfig, family: &Family, ty: FileType) -> Vec<TensorInfo> {
    let tensors = family.names.gguf_tensors(config, None).into_iter();
    tensors
        .map(|tensor| {
            let (name, dims) = (tensor.name, tensor.dims);
            let ty = ty.tensor_type(&name, &dims, config);
            TensorInfo { name, dims, ty }
        })
        .collect()
}

/// The key of a norm's epsilon, without the architecture.
pub(super) fn epsilon_key(norm: NormKind) -> &'static str {
    match norm {
        NormKind::LayerNorm => "attention.layer_norm_epsilon",
        NormKind::RmsNorm => "attention.layer_norm_rms_epsilon",
    }
}

#[expect(clippy::cast_possible_truncation, reason = "GGUF stores these values in single precision")]
fn single(number: f64) -> f32 {
    number as f32
}

#[cfg(test)]
mod tests {
    use formats::gguf::TensorType;
    use model::AttentionConfig;

    use super::*;
    use crate::{FAMILIES, gpt2, llama, qwen3};

    fn tiny(family: &Family) -> GptConfig {
        let base = (family.base)();
        let n_kv_head = (base.position.kind == Position::Rope).then_some(2);
        let mut config = GptConfig {
            vocab_size: 3,
            block_size: 7,
            n_layer: 2,
            n_embd: 64,
            tie_embeddings: false,
            attention: AttentionConfig { n_head: 4, n_kv_head, head_dim: None, ..base.attention },
            ..base
        };
        config.feed_forward.n_inner = Some(80);
        config
    }

    fn names(config: &GptConfig, family: &Family) -> Vec<String> {
        tensors(config, family, FileType::F32).into_iter().map(|tensor| tensor.name).collect()
    }

    #[test]
    fn tensor_types_depend_on_the_length_of_rows() {
        let tensors = tensors(&tiny(&gpt2::FAMILY), &gpt2::FAMILY, FileType::Q8_0);
        let of = |name: &str| tensors.iter().find(|tensor| tensor.name == name).unwrap();
        let expected = [
            ("token_embd.weight", vec![64, 3], TensorType::Q8_0),
            ("position_embd.weight", vec![64, 7], TensorType::F32),
            ("blk.1.attn_qkv.weight", vec![64, 192], TensorType::Q8_0),
            ("blk.1.attn_qkv.bias", vec![192], TensorType::F32),
            ("blk.1.ffn_up.weight", vec![64, 80], TensorType::Q8_0),
            ("blk.1.ffn_down.weight", vec![80, 64], TensorType::F16),
            ("blk.1.ffn_norm.weight", vec![64], TensorType::F32),
            ("output.weight", vec![64, 3], TensorType::Q8_0),
        ];
        for (name, dims, ty) in expected {
            assert_eq!((&of(name).dims, of(name).ty), (&dims, ty), "{name}");
        }
        assert_eq!(tensors.len(), 2 + 2 * 12 + 3);
    }

    #[test]
    fn grouped_queries_and_explicit_head_sizes_have_the_right_dimensions() {
        let mut config = tiny(&qwen3::FAMILY);
        config.attention.head_dim = Some(24);
        let tensors = tensors(&config, &qwen3::FAMILY, FileType::F32);
        let of = |name: &str| &tensors.iter().find(|tensor| tensor.name == name).unwrap().dims;
        assert_eq!(of("blk.0.attn_q.weight"), &[64, 96]);
        assert_eq!(of("blk.0.attn_k.weight"), &[64, 48]);
        assert_eq!(of("blk.0.attn_v.weight"), &[64, 48]);
        assert_eq!(of("blk.0.attn_q_norm.weight"), &[24]);
        assert_eq!(of("blk.0.attn_output.weight"), &[96, 64]);
        assert_eq!(tensors.len(), 1 + 2 * 11 + 2);
        let llama = GptConfig { tie_embeddings: true, ..tiny(&llama::FAMILY) };
        assert_eq!(names(&llama, &llama::FAMILY).len(), 1 + 2 * 9 + 1);
    }

    #[test]
    fn tensor_names_map_to_weights_one_to_one() {
        let plain = tiny(&llama::FAMILY);
        let biased = GptConfig { bias: true, ..plain.clone() };
        assert_eq!(names(&biased, &llama::FAMILY).len(), names(&plain, &llama::FAMILY).len() + 2 * 7);
        let without = llama::FAMILY.names.gguf_tensors(&biased, Some(".mlp."));
        assert_eq!(without.len(), names(&plain, &llama::FAMILY).len() + 2 * 4);
        let all = FAMILIES.iter().map(|family| (tiny(family), *family));
        for (config, family) in all.chain([(biased, &llama::FAMILY)]) {
            for name in names(&config, family) {
                let key = family.names.key_from_gguf(&name).expect(&name);
                assert_eq!(family.names.gguf_name(&key.name).unwrap().name, name);
            }
        }
    }

    #[test]
    fn a_tied_head_is_not_stored() {
        let untied = names(&tiny(&gpt2::FAMILY), &gpt2::FAMILY);
        let tied = names(&GptConfig { tie_embeddings: true, ..tiny(&gpt2::FAMILY) }, &gpt2::FAMILY);
        assert!(untied.contains(&"output.weight".to_owned()) && !tied.contains(&"output.weight".to_owned()));
        assert_eq!(tied.len() + 1, untied.len());
    }

    #[test]
    fn sizes_are_u32_and_epsilon_is_f32() {
        let vocabulary = Vocabulary::from_chars(&['a', 'b', 'c']);
        let metadata =
            metadata(&tiny(&gpt2::FAMILY), &gpt2::FAMILY, "tiny", FileType::Q8_0, &vocabulary).unwrap();
        let of = |wanted: &str| &metadata.iter().find(|(key, _)| key == wanted).unwrap().1;
        assert_eq!(of("gpt2.context_length"), &Value::U32(7));
        assert_eq!(of("gpt2.attention.head_count"), &Value::U32(4));
        assert_eq!(of("gpt2.attention.layer_norm_epsilon"), &Value::F32(1e-5));
        assert_eq!(of("general.file_type"), &Value::U32(7));
    }

    #[test]
    fn a_vocabulary_of_another_size_is_refused() {
        let vocabulary = Vocabulary::from_chars(&['a', 'b']);
        let error =
            metadata(&tiny(&llama::FAMILY), &llama::FAMILY, "tiny", FileType::F32, &vocabulary).unwrap_err();
        assert!(error.to_string().contains("2 tokens, but the embedding has 3 rows"), "{error}");
    }
}
