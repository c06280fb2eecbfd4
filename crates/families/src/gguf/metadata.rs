//! The metadata and the tensors of a model in a GGUF file.
//!
//! Keys and names are those of llama.cpp's `convert_hf_to_gguf.py` (its `conversion/gpt2.py`, `llama.py` and `qwen.py`);
//! what is required is what its `src/models` and `src/llama-vocab.cpp` load:
//!
//! - Every tensor has to be there, biases too (zeros where a model has none). Only `output.weight` may be missing: the
//!   token embedding stands in for it.
//! - Rows of `token_embd.weight` have to be as many as the vocabulary has tokens ([`Vocabulary::pad`]), and rows of
//!   `position_embd.weight` as many as `gpt2.context_length`.
//! - It aborts at the first token beyond the context of a GPT-2. It rounds the context it is asked for up to a multiple of
//!   256, so with a shorter one the number of tokens is to be limited.
//! - The activation of a GPT-2 is the tanh form of GELU and can't be chosen, nor can the scale of attention, `1/√d`. On a
//!   CPU it is looked up in half precision, so logits agree to about three digits even with weights in `f32`.

use formats::gguf::{Error, Result, TensorInfo, TensorType, Value, Vocabulary};
use model::{GptConfig, NormKind, Position};

use crate::family::Family;

/// The version of ggml's block formats, `GGML_QUANT_VERSION`.
const QUANTIZATION_VERSION: u32 = 2;

/// The keys and values of a model called `name` with its matrices in `ty`, in the converter's order.
///
/// # Errors
///
/// If llama.cpp would not load the vocabulary, or it has not a token for each row of the embedding.
///
/// # Panics
///
/// If a size is 2^32 or more.
pub fn metadata(
    config: &GptConfig,
    family: &Family,
    name: &str,
    ty: TensorType,
    vocabulary: &Vocabulary,
) -> Result<Vec<(String, Value)>> {
    let n_tokens = vocabulary.tokens.len();
    if n_tokens != config.vocab_size {
        let reason = format!("it has {n_tokens} tokens, and the embedding {} rows", config.vocab_size);
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
    push("general.file_type", ty.file_type().into());
    for (key, value) in (family.more_gguf_keys)(config) {
        push(&arch(key), size(value));
    }
    push("general.quantization_version", QUANTIZATION_VERSION.into());
    keys.extend(vocabulary.metadata()?);
    Ok(keys)
}

/// The tensors that llama.cpp asks for, in the order of the forward pass, as they are stored when `ty` is asked for.
pub fn tensors(config: &GptConfig, family: &Family, ty: TensorType) -> Vec<TensorInfo> {
    let tensors = family.names.gguf_tensors(config, None).into_iter();
    tensors
        .map(|tensor| {
            let (name, dims) = (tensor.name, tensor.dims);
            // The converter keeps positions in single precision, whatever the type of the matrices is.
            let ty = if name == "position_embd.weight" { TensorType::F32 } else { ty.stored(&dims) };
            TensorInfo { name, dims, ty }
        })
        .collect()
}

/// The key of what a norm adds, after the architecture.
pub(super) fn epsilon_key(norm: NormKind) -> &'static str {
    match norm {
        NormKind::LayerNorm => "attention.layer_norm_epsilon",
        NormKind::RmsNorm => "attention.layer_norm_rms_epsilon",
    }
}

#[expect(clippy::cast_possible_truncation, reason = "GGUF has these numbers in single precision")]
fn single(number: f64) -> f32 {
    number as f32
}

#[cfg(test)]
mod tests {
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
        tensors(config, family, TensorType::F32).into_iter().map(|tensor| tensor.name).collect()
    }

    #[test]
    fn tensors_have_the_types_that_their_rows_allow() {
        let tensors = tensors(&tiny(&gpt2::FAMILY), &gpt2::FAMILY, TensorType::Q8_0);
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
    fn heads_of_keys_are_fewer_and_a_head_may_be_wider_than_its_part_of_the_stream() {
        let mut config = tiny(&qwen3::FAMILY);
        config.attention.head_dim = Some(24);
        let tensors = tensors(&config, &qwen3::FAMILY, TensorType::F32);
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
    fn every_tensor_is_some_weight_and_the_other_way_round() {
        let plain = tiny(&llama::FAMILY);
        let biased = GptConfig { bias: true, ..plain.clone() };
        assert_eq!(names(&biased, &llama::FAMILY).len(), names(&plain, &llama::FAMILY).len() + 2 * 7);
        let without = llama::FAMILY.names.gguf_tensors(&biased, Some(".mlp."));
        assert_eq!(without.len(), names(&plain, &llama::FAMILY).len() + 2 * 4);
        let all = FAMILIES.iter().map(|family| (tiny(family), *family));
        for (config, family) in all.chain([(biased, &llama::FAMILY)]) {
            for name in names(&config, family) {
                let key = family.names.key_of_gguf(&name).expect(&name);
                assert_eq!(family.names.gguf_name(&key.name).unwrap().name, name);
            }
        }
    }

    #[test]
    fn a_tied_head_is_not_stored() {
        let own = names(&tiny(&gpt2::FAMILY), &gpt2::FAMILY);
        let tied = names(&GptConfig { tie_embeddings: true, ..tiny(&gpt2::FAMILY) }, &gpt2::FAMILY);
        assert!(own.contains(&"output.weight".to_owned()) && !tied.contains(&"output.weight".to_owned()));
        assert_eq!(tied.len() + 1, own.len());
    }

    #[test]
    fn sizes_are_unsigned_and_epsilon_is_single_precision() {
        let vocabulary = Vocabulary::from_chars(&['a', 'b', 'c']);
        let metadata =
            metadata(&tiny(&gpt2::FAMILY), &gpt2::FAMILY, "tiny", TensorType::Q8_0, &vocabulary).unwrap();
        let of = |wanted: &str| &metadata.iter().find(|(key, _)| key == wanted).unwrap().1;
        assert_eq!(of("gpt2.context_length"), &Value::U32(7));
        assert_eq!(of("gpt2.attention.head_count"), &Value::U32(4));
        assert_eq!(of("gpt2.attention.layer_norm_epsilon"), &Value::F32(1e-5));
        assert_eq!(of("general.file_type"), &Value::U32(7));
    }

    #[test]
    fn a_vocabulary_of_another_size_is_refused() {
        let vocabulary = Vocabulary::from_chars(&['a', 'b']);
        let error = metadata(&tiny(&llama::FAMILY), &llama::FAMILY, "tiny", TensorType::F32, &vocabulary)
            .unwrap_err();
        assert!(error.to_string().contains("2 tokens, and the embedding 3 rows"), "{error}");
    }
}
