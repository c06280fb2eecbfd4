//! Llama: RoPE, RMSNorm, SwiGLU.

use model::GptConfig;
use serde_json::{Value, json};

use crate::{
    config_problem::ConfigProblem,
    family::{Family, Need, Stage},
    llama_like::{self, BUFFERS, PREFIX},
    names::{
        Bias::{Never, Optional},
        MatrixLayout, Module, Names,
        RowOrder::{Pairs, Same},
    },
};

pub(crate) static FAMILY: Family = Family {
    model_type: "llama",
    name: "Llama",
    class: "LlamaForCausalLM",
    architecture: "llama",
    base: llama_like::base,
    options,
    to_json,
    from_json,
    without_bias,
    names: NAMES,
    extra_gguf_keys,
    unsupported_by_llama_cpp: |_| None,
};

pub(crate) const NAMES: Names = Names {
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
        Optional,
        &[
            ("model.layers.*.self_attn.q_proj", "blk.*.attn_q", Pairs),
            ("model.layers.*.self_attn.k_proj", "blk.*.attn_k", Pairs),
            ("model.layers.*.self_attn.v_proj", "blk.*.attn_v", Same),
        ],
    ),
    (
        "blocks.*.attention.project",
        Optional,
        &[("model.layers.*.self_attn.o_proj", "blk.*.attn_output", Same)],
    ),
    (
        "blocks.*.feed_forward_norm",
        Never,
        &[("model.layers.*.post_attention_layernorm", "blk.*.ffn_norm", Same)],
    ),
    (
        "blocks.*.feed_forward.expand",
        Optional,
        &[
            ("model.layers.*.mlp.gate_proj", "blk.*.ffn_gate", Same),
            ("model.layers.*.mlp.up_proj", "blk.*.ffn_up", Same),
        ],
    ),
    ("blocks.*.feed_forward.project", Optional, &[("model.layers.*.mlp.down_proj", "blk.*.ffn_down", Same)]),
    ("norm", Never, &[("model.norm", "output_norm", Same)]),
    ("head", Never, &[("lm_head", "output", Same)]),
];

fn options(config: &GptConfig) -> Vec<Stage> {
    let plain = Stage {
        choice: Need::equal("qk_norm", config.attention.qk_norm, false),
        others: vec![
            llama_like::whole_heads(config),
            Need::equal("qkv_bias", config.attention.qkv_bias, false),
        ],
    };
    vec![llama_like::options(config), plain]
}

fn to_json(config: &GptConfig) -> Value {
    let mut file = llama_like::to_json(config, &FAMILY);
    file["attention_bias"] = json!(config.bias);
    file["mlp_bias"] = json!(config.bias);
    file
}

fn from_json(file: &Value) -> Result<GptConfig, ConfigProblem> {
    let config = llama_like::from_json(file, None)?;
    let bias = llama_like::flag(file, "attention_bias")? | llama_like::flag(file, "mlp_bias")?;
    Ok(GptConfig { bias, ..config })
}

/// A `Gpt` has biases in all matrices or in none, so matrices without biases get zeros.
fn without_bias(file: &Value) -> Option<&'static str> {
    match ["attention_bias", "mlp_bias"].map(|key| file[key] == true) {
        [true, false] => Some(".mlp."),
        [false, true] => Some(".self_attn."),
        _ => None,
    }
}

pub(crate) fn extra_gguf_keys(config: &GptConfig) -> Vec<(&'static str, usize)> {
    vec![("vocab_size", config.vocab_size), ("rope.dimension_count", config.head_dim())]
}
