//! The one place that knows Hugging Face's GPT-2 layout: its key names and its `config.json`.

use model::{Activation, GptConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

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

/// What `torch.compile` puts before every key of a model that it saves.
pub(crate) const COMPILED: &str = "_orig_mod.";

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
/// If the model has no such parameter.
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
            .unwrap_or_else(|| panic!("{path} has no name in Hugging Face's layout"))
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

/// The part of `config.json` that decides the model. Other keys may stand beside these.
#[derive(Debug, Deserialize)]
struct ConfigFile {
    model_type: String,
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
}

impl Default for Extension {
    fn default() -> Self {
        Self { bias: true }
    }
}

fn yes() -> bool {
    true
}

fn gelu_new() -> String {
    "gelu_new".to_owned()
}

fn default_epsilon() -> f64 {
    1e-5
}

/// Ids as these files have them: none is null, one is a number.
pub(crate) fn one_or_many(ids: &[u32]) -> Value {
    match ids {
        [] => Value::Null,
        [id] => json!(id),
        ids => json!(ids),
    }
}

/// The ids of a number or of a list; `None` for anything else.
pub(crate) fn ids_of(value: &Value) -> Option<Vec<u32>> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(values) => values.iter().map(id).collect(),
        value => id(value).map(|id| vec![id]),
    }
}

/// `config.json` of a model; `ends` are the tokens at which a text ends, and `dtype` is what its weights are stored as.
pub(crate) fn config_to_json(config: &GptConfig, ends: &[u32], dtype: &str) -> Value {
    json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": match config.activation {
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu_new",
            Activation::Relu2 => "relu2",
            Activation::Swiglu => "silu",
        },
        "vocab_size": config.vocab_size,
        "n_positions": config.block_size,
        "n_ctx": config.block_size,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_inner": null,
        "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02,
        "attn_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": ends.first(),
        "eos_token_id": one_or_many(ends),
        "dtype": dtype,
        "kindling": Extension { bias: config.bias },
    })
}

/// The sizes that a `config.json` describes, or why no [`model::Gpt`] is such a model.
pub(crate) fn config_from_json(text: &str) -> Result<GptConfig, ConfigProblem> {
    let file: ConfigFile = serde_json::from_str(text)?;
    let unsupported = |what: String| Err(ConfigProblem::Unsupported(what));
    if file.model_type != "gpt2" {
        return unsupported(format!("`model_type` is {:?}; only \"gpt2\" is supported", file.model_type));
    }
    if file.n_inner.is_some_and(|n_inner| n_inner != 4 * file.n_embd) {
        return unsupported(format!("`n_inner` is {:?}; only 4 x `n_embd` is supported", file.n_inner));
    }
    #[expect(clippy::float_cmp, reason = "both come from the same decimal digits")]
    if file.layer_norm_epsilon != default_epsilon() {
        return unsupported(format!(
            "`layer_norm_epsilon` is {}; only 1e-5 is supported",
            file.layer_norm_epsilon
        ));
    }
    if !file.scale_attn_weights || file.scale_attn_by_inverse_layer_idx {
        return unsupported(
            "only attention scaled by the root of the head dimension is supported".to_owned(),
        );
    }
    let activation = match file.activation_function.as_str() {
        "gelu" => Activation::Gelu,
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Activation::GeluTanh,
        other => {
            return unsupported(format!(
                "`activation_function` is {other:?}; only gelu and gelu_new are supported"
            ));
        }
    };
    Ok(GptConfig {
        vocab_size: file.vocab_size,
        block_size: file.n_positions,
        n_layer: file.n_layer,
        n_head: file.n_head,
        n_embd: file.n_embd,
        dropout: file.resid_pdrop,
        bias: file.kindling.bias,
        tie_embeddings: file.tie_word_embeddings,
        activation,
        ..GptConfig::gpt2()
    })
}

/// Why a `config.json` describes no model of ours.
#[derive(Debug)]
pub(crate) enum ConfigProblem {
    Json(serde_json::Error),
    Unsupported(String),
}

impl From<serde_json::Error> for ConfigProblem {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_gpt2s_keys() {
        for (path, expected) in [
            ("token_embedding.weight", "transformer.wte.weight"),
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
        for config in
            [GptConfig::gpt2(), GptConfig { tie_embeddings: false, dropout: 0.25, ..GptConfig::debug() }]
        {
            let text = config_to_json(&config, &[7], "float32").to_string();
            assert_eq!(config_from_json(&text).expect("it was just written"), config);
        }
    }

    #[test]
    fn other_models_are_refused_by_name() {
        let mut value = config_to_json(&GptConfig::debug(), &[], "float32");
        value["model_type"] = json!("llama");
        match config_from_json(&value.to_string()) {
            Err(ConfigProblem::Unsupported(reason)) => assert!(reason.contains("\"llama\""), "{reason}"),
            other => panic!("a llama was taken for a GPT-2: {other:?}"),
        }
    }
}
