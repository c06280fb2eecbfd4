//! Qwen3: a Llama with QK norm and without biases.

use model::{AttentionConfig, GptConfig};
use serde_json::{Value, json};

use crate::{
    config_problem::{ConfigProblem, unsupported},
    family::{Family, Need, Stage},
    llama_like::{self, BUFFERS, PREFIX},
    names::{Bias::Never, MatrixLayout, Module, Names, RowOrder::Same},
};

pub(crate) static FAMILY: Family = Family {
    model_type: "qwen3",
    name: "Qwen3",
    class: "Qwen3ForCausalLM",
    architecture: "qwen3",
    base,
    options,
    to_json,
    from_json,
    without_bias: |_| None,
    names: NAMES,
    extra_gguf_keys: |_| Vec::new(),
    unsupported_by_llama_cpp: |_| None,
};

const NAMES: Names = Names {
    prefix: PREFIX,
    buffers: BUFFERS,
    matrices: MatrixLayout::OutIn,
    norm_leaves: ["weight", "bias"],
    modules: &MODULES,
};

const MODULES: [Module; 11] = [
    ("token_embedding", Never, &[("model.embed_tokens", "token_embd", Same)]),
    ("blocks.*.attention_norm", Never, &[("model.layers.*.input_layernorm", "blk.*.attn_norm", Same)]),
    (
        "blocks.*.attention.qkv",
        Never,
        &[
            ("model.layers.*.self_attn.q_proj", "blk.*.attn_q", Same),
            ("model.layers.*.self_attn.k_proj", "blk.*.attn_k", Same),
            ("model.layers.*.self_attn.v_proj", "blk.*.attn_v", Same),
        ],
    ),
    (
        "blocks.*.attention.query_norm",
        Never,
        &[("model.layers.*.self_attn.q_norm", "blk.*.attn_q_norm", Same)],
    ),
    ("blocks.*.attention.key_norm", Never, &[("model.layers.*.self_attn.k_norm", "blk.*.attn_k_norm", Same)]),
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

/// The default `head_dim` in `transformers`.
const DEFAULT_HEAD_DIM: usize = 128;

fn base() -> GptConfig {
    let base = llama_like::base();
    GptConfig { attention: AttentionConfig { qk_norm: true, ..base.attention }, ..base }
}

fn options(config: &GptConfig) -> Vec<Stage> {
    let normed = Stage {
        choice: Need::equal("qk_norm", config.attention.qk_norm, true),
        others: vec![
            Need::equal("bias", config.bias, false),
            Need::equal("qkv_bias", config.attention.qkv_bias, false),
        ],
    };
    vec![llama_like::options(config), normed]
}

fn to_json(config: &GptConfig) -> Value {
    let mut file = llama_like::to_json(config, &FAMILY);
    file["attention_bias"] = json!(false);
    file
}

fn from_json(file: &Value) -> Result<GptConfig, ConfigProblem> {
    let mut config = llama_like::from_json(file, Some(DEFAULT_HEAD_DIM))?;
    if llama_like::flag(file, "attention_bias")? {
        return Err(unsupported("attention_bias", true, "false"));
    }
    config.attention.qk_norm = true;
    Ok(config)
}
