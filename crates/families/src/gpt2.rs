//! GPT-2: learned positions, layer norm, an MLP without gate.

use model::{
    Activation, AttentionConfig, FeedForwardConfig, GptConfig, NormConfig, NormKind, Position, PositionConfig,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    config_problem::{ConfigProblem, unsupported},
    family::{Family, Need, Stage, option},
    names::{
        Bias::{Always, Never},
        MatrixLayout, Module, Names,
        RowOrder::Same,
    },
};

pub(crate) static FAMILY: Family = Family {
    model_type: "gpt2",
    name: "GPT-2",
    class: "GPT2LMHeadModel",
    architecture: "gpt2",
    base,
    options,
    to_json,
    from_json,
    without_bias: |_| None,
    names: NAMES,
    extra_gguf_keys: |_| Vec::new(),
    unsupported_by_llama_cpp,
};

pub(crate) const NAMES: Names = Names {
    prefix: "transformer.",
    // The causal mask and its fill value.
    buffers: &[".attn.bias", ".attn.masked_bias"],
    matrices: MatrixLayout::InOutButHead,
    norm_leaves: ["weight", "bias"],
    modules: &MODULES,
};

const MODULES: [Module; 10] = [
    ("token_embedding", Never, &[("transformer.wte", "token_embd", Same)]),
    ("position_embedding", Never, &[("transformer.wpe", "position_embd", Same)]),
    ("blocks.*.attention_norm", Always, &[("transformer.h.*.ln_1", "blk.*.attn_norm", Same)]),
    ("blocks.*.attention.qkv", Always, &[("transformer.h.*.attn.c_attn", "blk.*.attn_qkv", Same)]),
    ("blocks.*.attention.project", Always, &[("transformer.h.*.attn.c_proj", "blk.*.attn_output", Same)]),
    ("blocks.*.feed_forward_norm", Always, &[("transformer.h.*.ln_2", "blk.*.ffn_norm", Same)]),
    ("blocks.*.feed_forward.expand", Always, &[("transformer.h.*.mlp.c_fc", "blk.*.ffn_up", Same)]),
    ("blocks.*.feed_forward.project", Always, &[("transformer.h.*.mlp.c_proj", "blk.*.ffn_down", Same)]),
    ("norm", Always, &[("transformer.ln_f", "output_norm", Same)]),
    ("head", Never, &[("lm_head", "output", Same)]),
];

fn base() -> GptConfig {
    let gpt2 = GptConfig::gpt2();
    GptConfig { dropout: 0.0, position: PositionConfig { kind: Position::Learned, ..gpt2.position }, ..gpt2 }
}

fn options(config: &GptConfig) -> Vec<Stage> {
    let GptConfig { n_embd, attention, feed_forward, .. } = config;
    let (n_head, head_dim) = (attention.n_head, config.head_dim());
    vec![Stage {
        choice: Need::equal("position", config.position.kind, Position::Learned),
        others: vec![
            Need::equal("norm", config.norm.kind, NormKind::LayerNorm),
            Need {
                option: option("activation", feed_forward.activation),
                holds: feed_forward.activation != Activation::Swiglu,
                expected: "any other `activation`".to_owned(),
            },
            Need::equal("qk_norm", attention.qk_norm, false),
            Need::equal("qkv_bias", attention.qkv_bias, false),
            Need::equal("n_kv_head", config.n_kv_head(), n_head),
            Need {
                option: option("head_dim", head_dim),
                holds: head_dim.checked_mul(n_head) == Some(*n_embd),
                expected: "`head_dim` = `n_embd` / `n_head`".to_owned(),
            },
        ],
    }]
}

fn unsupported_by_llama_cpp(config: &GptConfig) -> Option<String> {
    (config.feed_forward.activation == Activation::Relu2).then(|| {
        "llama.cpp's GPT-2 uses the tanh form of GELU, this model `activation` = \"relu2\"".to_owned()
    })
}

/// The relevant keys of `config.json`; others are ignored.
#[derive(Debug, Deserialize)]
struct ConfigFile {
    vocab_size: usize,
    n_positions: usize,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    #[serde(default)]
    n_inner: Option<usize>,
    #[serde(default = "gelu_new")]
    activation_function: String,
    #[serde(default = "default_epsilon")]
    layer_norm_epsilon: f64,
    #[serde(default)]
    resid_pdrop: f64,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
    #[serde(default = "yes")]
    scale_attn_weights: bool,
    #[serde(default)]
    scale_attn_by_inverse_layer_idx: bool,
    #[serde(default)]
    kindling: Extension,
}

/// Options without a key in GPT-2's `config.json`. `transformers` keeps and ignores them.
#[derive(Debug, Serialize, Deserialize)]
struct Extension {
    /// Whether the model has biases. If not, they are stored as zeros, since a GPT-2 always has them.
    bias: bool,
    #[serde(default)]
    zero_init: bool,
}

impl Default for Extension {
    fn default() -> Self {
        Self { bias: true, zero_init: false }
    }
}

fn gelu_new() -> String {
    "gelu_new".to_owned()
}

fn default_epsilon() -> f64 {
    1e-5
}

fn yes() -> bool {
    true
}

fn to_json(config: &GptConfig) -> Value {
    json!({
        "architectures": [FAMILY.class],
        "model_type": FAMILY.model_type,
        "activation_function": match config.feed_forward.activation {
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu_new",
            Activation::Relu2 => "relu2",
            Activation::Swiglu => unreachable!("a GPT-2 has no gate"),
        },
        "vocab_size": config.vocab_size,
        "n_positions": config.block_size,
        "n_ctx": config.block_size,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.attention.n_head,
        "n_inner": Some(config.n_inner()).filter(|&n_inner| n_inner != 4 * config.n_embd),
        "layer_norm_epsilon": config.norm.epsilon,
        "initializer_range": 0.02,
        "attn_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "tie_word_embeddings": config.tie_embeddings,
        "kindling": Extension { bias: config.bias, zero_init: config.zero_init },
    })
}

fn from_json(file: &Value) -> Result<GptConfig, ConfigProblem> {
    let file: ConfigFile = ConfigFile::deserialize(file)?;
    if !file.scale_attn_weights {
        return Err(unsupported("scale_attn_weights", false, "true"));
    }
    if file.scale_attn_by_inverse_layer_idx {
        return Err(unsupported("scale_attn_by_inverse_layer_idx", true, "false"));
    }
    let activation = match file.activation_function.as_str() {
        "gelu" => Activation::Gelu,
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Activation::GeluTanh,
        "relu2" => Activation::Relu2,
        other => return Err(unsupported("activation_function", other, "gelu, gelu_new or relu2")),
    };
    let n_inner = file.n_inner.filter(|&n_inner| Some(n_inner) != file.n_embd.checked_mul(4));
    let base = base();
    Ok(GptConfig {
        vocab_size: file.vocab_size,
        block_size: file.n_positions,
        n_layer: file.n_layer,
        n_embd: file.n_embd,
        dropout: file.resid_pdrop,
        bias: file.kindling.bias,
        tie_embeddings: file.tie_word_embeddings,
        zero_init: file.kindling.zero_init,
        attention: AttentionConfig { n_head: file.n_head, ..base.attention },
        feed_forward: FeedForwardConfig { n_inner, activation },
        norm: NormConfig { epsilon: file.layer_norm_epsilon, ..base.norm },
        ..base
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_survives_the_round_trip() {
        let debug = GptConfig::debug;
        let odd = GptConfig {
            feed_forward: FeedForwardConfig { n_inner: Some(29), activation: Activation::Relu2 },
            norm: NormConfig { epsilon: 1e-6, ..debug().norm },
            ..debug()
        };
        for config in [
            GptConfig::gpt2(),
            GptConfig { tie_embeddings: false, dropout: 0.25, zero_init: true, ..debug() },
            odd,
        ] {
            assert_eq!(from_json(&to_json(&config)).expect("it was just written"), config);
        }
    }

    #[test]
    fn unsupported_options_are_refused_by_name() {
        for (key, value, expected) in [
            ("activation_function", json!("relu"), "`activation_function` is \"relu\""),
            ("scale_attn_weights", json!(false), "`scale_attn_weights` is false; only true is supported"),
            ("scale_attn_by_inverse_layer_idx", json!(true), "`scale_attn_by_inverse_layer_idx` is true"),
        ] {
            let mut file = to_json(&GptConfig::debug());
            file[key] = value;
            match from_json(&file) {
                Err(ConfigProblem::Unsupported(reason)) => assert!(reason.contains(expected), "{reason}"),
                other => panic!("{key} was accepted: {other:?}"),
            }
        }
    }
}
