//! GPT-2: the names of its weights and its `config.json`.

use model::{Activation, GptConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Architecture, ConfigProblem, unsupported, yes};

/// Module fields and what GPT-2's checkpoints call them, for the parts outside the blocks.
const OUTER: [(&str, &str); 4] = [
    ("token_embedding", "transformer.wte"),
    ("position_embedding", "transformer.wpe"),
    ("norm", "transformer.ln_f"),
    ("head", "lm_head"),
];

/// The same for the parts of a block.
const INNER: [(&str, &str); 6] = [
    ("attention_norm", "ln_1"),
    ("attention.qkv", "attn.c_attn"),
    ("attention.project", "attn.c_proj"),
    ("feed_forward_norm", "ln_2"),
    ("feed_forward.expand", "mlp.c_fc"),
    ("feed_forward.project", "mlp.c_proj"),
];

/// What every key but the head's begins with, in most files and not in all.
pub(crate) const PREFIX: &str = "transformer.";

/// The key of the token embedding.
pub(crate) const EMBEDDING_KEY: &str = "transformer.wte.weight";

/// The key of the head, the one weight stored transposed there (`[V, C]`; linear layers of the blocks are
/// `[in, out]`, as here).
pub(crate) const HEAD_KEY: &str = "lm_head.weight";

/// The key of a parameter, from its path in the model: `blocks.3.attention.qkv.weight` becomes
/// `transformer.h.3.attn.c_attn.weight`.
///
/// # Panics
///
/// If a GPT-2 has no such parameter.
pub(crate) fn key(path: &str) -> String {
    let (module, leaf) = path.rsplit_once('.').unwrap_or_else(|| panic!("{path} is no parameter's path"));
    let leaf = match leaf {
        "gamma" => "weight",
        "beta" => "bias",
        other => other,
    };
    let find = |table: &[(&str, &'static str)], name: &str| {
        table
            .iter()
            .find(|(ours, _)| *ours == name)
            .map(|&(_, theirs)| theirs)
            .unwrap_or_else(|| panic!("{path} has no name in GPT-2's layout"))
    };
    match module.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
        Some((layer, part)) => format!("transformer.h.{layer}.{}.{leaf}", find(&INNER, part)),
        None => format!("{}.{leaf}", find(&OUTER, module)),
    }
}

/// Keys of buffers that old files hold beside the weights: the causal mask and its fill value.
pub(crate) fn is_mask(key: &str) -> bool {
    key.ends_with(".attn.bias") || key.ends_with(".attn.masked_bias")
}

/// Whether a key is that of a matrix between the embeddings and the head.
pub(crate) fn is_linear(key: &str) -> bool {
    key.contains(".attn.") || key.contains(".mlp.")
}

/// The key of the bias that a GPT-2 has beside this weight; an embedding and the head have none.
pub(crate) fn bias_key(weight_key: &str) -> Option<String> {
    let embeddings = [EMBEDDING_KEY, "transformer.wpe.weight", HEAD_KEY];
    let module = weight_key.strip_suffix(".weight").filter(|_| !embeddings.contains(&weight_key))?;
    Some(format!("{module}.bias"))
}

/// The part of `config.json` that decides the model. Other keys may stand beside these.
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

/// What GPT-2's `config.json` has no key for. `transformers` keeps and ignores it.
#[derive(Debug, Serialize, Deserialize)]
struct Extension {
    /// Whether the biases are parameters. A GPT-2 always has them, so without they are stored as zeros.
    bias: bool,
    /// What the model began with.
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

/// `config.json` of a model, but for what is the same in every layout.
pub(super) fn config_to_json(config: &GptConfig) -> Value {
    json!({
        "architectures": [Architecture::Gpt2.class()],
        "model_type": Architecture::Gpt2.model_type(),
        "activation_function": match config.activation {
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu_new",
            Activation::Relu2 => "relu2",
            Activation::Swiglu => unreachable!("a GPT-2 has one hidden layer"),
        },
        "vocab_size": config.vocab_size,
        "n_positions": config.block_size,
        "n_ctx": config.block_size,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_inner": Some(config.n_inner()).filter(|&n_inner| n_inner != 4 * config.n_embd),
        "layer_norm_epsilon": config.norm_epsilon,
        "initializer_range": 0.02,
        "attn_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "tie_word_embeddings": config.tie_embeddings,
        "kindling": Extension { bias: config.bias, zero_init: config.zero_init },
    })
}

/// The sizes that a `config.json` describes.
pub(super) fn config_from_json(file: Value) -> Result<GptConfig, ConfigProblem> {
    let file: ConfigFile = serde_json::from_value(file)?;
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
    Ok(GptConfig {
        vocab_size: file.vocab_size,
        block_size: file.n_positions,
        n_layer: file.n_layer,
        n_head: file.n_head,
        n_embd: file.n_embd,
        n_inner: file.n_inner.filter(|&n_inner| Some(n_inner) != file.n_embd.checked_mul(4)),
        dropout: file.resid_pdrop,
        bias: file.kindling.bias,
        tie_embeddings: file.tie_word_embeddings,
        activation,
        norm_epsilon: file.layer_norm_epsilon,
        zero_init: file.kindling.zero_init,
        ..GptConfig::gpt2()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_gpt2s_keys() {
        for (path, expected) in [
            ("token_embedding.weight", EMBEDDING_KEY),
            ("blocks.11.attention_norm.beta", "transformer.h.11.ln_1.bias"),
            ("blocks.0.feed_forward.project.bias", "transformer.h.0.mlp.c_proj.bias"),
            ("norm.gamma", "transformer.ln_f.weight"),
            ("head.weight", HEAD_KEY),
        ] {
            assert_eq!(key(path), expected);
        }
    }

    #[test]
    fn config_survives_the_round_trip() {
        let debug = GptConfig::debug;
        for config in [
            GptConfig::gpt2(),
            GptConfig { tie_embeddings: false, dropout: 0.25, zero_init: true, ..debug() },
            GptConfig { n_inner: Some(29), norm_epsilon: 1e-6, activation: Activation::Relu2, ..debug() },
        ] {
            assert_eq!(config_from_json(config_to_json(&config)).expect("it was just written"), config);
        }
    }

    #[test]
    fn what_a_model_lacks_is_refused_by_name() {
        for (key, value, expected) in [
            ("activation_function", json!("relu"), "`activation_function` is \"relu\""),
            ("scale_attn_weights", json!(false), "`scale_attn_weights` is false; only true is supported"),
            ("scale_attn_by_inverse_layer_idx", json!(true), "`scale_attn_by_inverse_layer_idx` is true"),
        ] {
            let mut file = config_to_json(&GptConfig::debug());
            file[key] = value;
            match config_from_json(file) {
                Err(ConfigProblem::Unsupported(reason)) => assert!(reason.contains(expected), "{reason}"),
                other => panic!("{key} was taken for that of a GPT-2: {other:?}"),
            }
        }
    }
}
