//! Qwen2: a Llama with biases for queries, keys and values only.

use model::{AttentionConfig, GptConfig};
use serde_json::Value;

use crate::{
    config_problem::ConfigProblem,
    family::{Family, Need, Stage, option},
    llama_like::{self, BUFFERS, PREFIX},
    names::{
        Bias::{Always, Never},
        MatrixLayout, Module, Names,
        RowOrder::Same,
    },
};

/// Qwen2 and Qwen2.5.
pub(crate) static FAMILY: Family = Family {
    model_type: "qwen2",
    name: "Qwen2",
    class: "Qwen2ForCausalLM",
    architecture: "qwen2",
    base,
    options,
    to_json,
    from_json,
    without_bias: |_| None,
    names: NAMES,
    extra_gguf_keys: |_| Vec::new(),
    unsupported_by_llama_cpp,
};

const NAMES: Names = Names {
    prefix: PREFIX,
    buffers: BUFFERS,
    matrices: MatrixLayout::OutIn,
    norm_leaves: ["weight", "bias"],
    modules: &MODULES,
};

const MODULES: [Module; 9] = [
    ("token_embedding", Never, &[("model.embed_tokens", "token_embd", Same)]),
    ("blocks.*.attention_norm", Never, &[("model.layers.*.input_layernorm", "blk.*.attn_norm", Same)]),
    (
        "blocks.*.attention.qkv",
        Always,
        &[
            ("model.layers.*.self_attn.q_proj", "blk.*.attn_q", Same),
            ("model.layers.*.self_attn.k_proj", "blk.*.attn_k", Same),
            ("model.layers.*.self_attn.v_proj", "blk.*.attn_v", Same),
        ],
    ),
    ("blocks.*.attention.project", Never, &[("model.layers.*.self_attn.o_proj", "blk.*.attn_output", Same)]),
    (
        "blocks.*.feed_forward_norm",
        Never,
        &[("model.layers.*.post_attention_layernorm", "blk.*.ffn_norm", Same)],
    ),
    (
        "blocks.*.feed_forward.expand",
        Never,
        &[
            ("model.layers.*.mlp.gate_proj", "blk.*.ffn_gate", Same),
            ("model.layers.*.mlp.up_proj", "blk.*.ffn_up", Same),
        ],
    ),
    ("blocks.*.feed_forward.project", Never, &[("model.layers.*.mlp.down_proj", "blk.*.ffn_down", Same)]),
    ("norm", Never, &[("model.norm", "output_norm", Same)]),
    ("head", Never, &[("lm_head", "output", Same)]),
];

fn base() -> GptConfig {
    let base = llama_like::base();
    GptConfig { attention: AttentionConfig { qkv_bias: true, ..base.attention }, ..base }
}

fn options(config: &GptConfig) -> Vec<Stage> {
    let plain = Stage {
        choice: Need::equal("qk_norm", config.attention.qk_norm, false),
        others: vec![llama_like::whole_heads(config)],
    };
    let biased = Stage {
        choice: Need::equal("qkv_bias", config.attention.qkv_bias, true),
        others: vec![Need::equal("bias", config.bias, false)],
    };
    vec![llama_like::options(config), plain, biased]
}

fn to_json(config: &GptConfig) -> Value {
    llama_like::to_json(config, &FAMILY)
}

fn from_json(file: &Value) -> Result<GptConfig, ConfigProblem> {
    let mut config = llama_like::from_json(file, None)?;
    config.attention.qkv_bias = true;
    Ok(config)
}

fn unsupported_by_llama_cpp(config: &GptConfig) -> Option<String> {
    let head_dim = config.head_dim();
    (head_dim * config.attention.n_head != config.n_embd).then(|| {
        format!(
            "llama.cpp's Qwen2 needs `head_dim` = `n_embd` / `n_head`; this model has {}",
            option("head_dim", head_dim)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama_cpp_needs_the_default_head_size() {
        let mut config = base();
        assert_eq!(unsupported_by_llama_cpp(&config), None);
        config.attention.head_dim = Some(6);
        let reason = unsupported_by_llama_cpp(&config).expect("another head size");
        assert!(reason.ends_with("this model has `head_dim` = 6"), "{reason}");
    }
}
