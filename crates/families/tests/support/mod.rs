//! Builds small GGUF models.

use families::{
    Family,
    gguf::{FileType, metadata, tensors},
};
use formats::gguf::{self, Vocabulary};
use model::{AttentionConfig, GptConfig, NormConfig, Position, PositionConfig};

pub(crate) fn family(model_type: &str) -> &'static Family {
    Family::of_model_type(model_type).expect("it is known")
}

/// A config with seven tokens and sizes that are all different.
pub(crate) fn sizes(family: &Family) -> GptConfig {
    let base = family.base();
    let is_rotary = base.position.kind == Position::Rope;
    let mut config = GptConfig {
        vocab_size: 7,
        block_size: 8,
        n_layer: 1,
        n_embd: 32,
        tie_embeddings: family.model_type != "llama",
        attention: AttentionConfig {
            n_head: if is_rotary { 4 } else { 2 },
            n_kv_head: is_rotary.then_some(2),
            head_dim: is_rotary.then_some(6),
            ..base.attention
        },
        position: PositionConfig { rope_theta: 1e4, ..base.position },
        norm: NormConfig { epsilon: 1e-5, ..base.norm },
        ..base
    };
    config.feed_forward.n_inner = Some(48);
    config
}

/// The bytes of a complete GGUF file.
pub(crate) fn written(config: &GptConfig, family: &Family, ty: FileType, vocabulary: &Vocabulary) -> Vec<u8> {
    let metadata = metadata(config, family, "golden", ty, vocabulary).expect("a vocabulary that fits");
    let mut bytes = Vec::new();
    gguf::write(&mut bytes, &metadata, &tensors(config, family, ty), |tensor| {
        let n_values: u16 = tensor.dims.iter().product::<usize>().try_into().expect("a small tensor");
        Ok::<_, gguf::Error>((0..n_values).map(|place| f32::from(place % 100) / 128.0).collect())
    })
    .expect("every type represents the values");
    bytes
}
