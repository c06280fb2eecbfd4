//! The common parts of Llama-like families: RoPE, RMSNorm, SwiGLU, GQA, and most of `config.json`.

use model::{
    Activation, AttentionConfig, FeedForwardConfig, GptConfig, NormConfig, NormKind, Position, PositionConfig,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    config_problem::{ConfigProblem, unsupported},
    family::{Family, Need, Stage, option},
};

/// The prefix of all keys except the head's.
pub(crate) const PREFIX: &str = "model.";

/// Suffixes of the keys of buffers in old files: the RoPE frequencies.
pub(crate) const BUFFERS: &[&str] = &[".rotary_emb.inv_freq"];

/// A config with the common options, without biases.
pub(crate) fn base() -> GptConfig {
    let gpt2 = GptConfig::gpt2();
    GptConfig {
        dropout: 0.0,
        bias: false,
        tie_embeddings: false,
        feed_forward: FeedForwardConfig { n_inner: None, activation: Activation::Swiglu },
        position: PositionConfig { kind: Position::Rope, rope_theta: DEFAULT_THETA },
        norm: NormConfig { kind: NormKind::RmsNorm, epsilon: default_epsilon() },
        ..gpt2
    }
}

/// The common requirements.
pub(crate) fn options(config: &GptConfig) -> Stage {
    Stage {
        choice: Need::equal("position", config.position.kind, Position::Rope),
        others: vec![
            Need::equal("norm", config.norm.kind, NormKind::RmsNorm),
            Need::equal("activation", config.feed_forward.activation, Activation::Swiglu),
        ],
    }
}

/// Requires that `n_embd` is a multiple of `n_head`, which `transformers` divides to get the head size.
pub(crate) fn whole_heads(config: &GptConfig) -> Need {
    let (n_embd, n_head) = (config.n_embd, config.attention.n_head);
    Need {
        option: format!("{} and {}", option("n_embd", n_embd), option("n_head", n_head)),
        holds: n_embd.is_multiple_of(n_head),
        expected: "an `n_embd` that is a multiple of `n_head`".to_owned(),
    }
}

/// The relevant keys of `config.json`; others are ignored.
#[derive(Debug, Deserialize)]
struct ConfigFile {
    vocab_size: usize,
    max_position_embeddings: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    #[serde(default = "silu")]
    hidden_act: String,
    #[serde(default = "default_epsilon")]
    rms_norm_eps: f64,
    rope_parameters: Option<Value>,
    rope_theta: Option<f64>,
    rope_scaling: Option<Value>,
    #[serde(default)]
    use_sliding_window: bool,
    #[serde(default)]
    layer_types: Vec<String>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    kindling: Extension,
}

/// Options without a key in `config.json`. `transformers` keeps and ignores them.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Extension {
    /// Dropout of activations; `attention_dropout` only applies to attention weights.
    #[serde(default)]
    dropout: f64,
    #[serde(default)]
    zero_init: bool,
}

fn silu() -> String {
    "silu".to_owned()
}

fn default_epsilon() -> f64 {
    1e-6
}

/// The default RoPE base.
const DEFAULT_THETA: f64 = 1e4;

/// `config.json`, without the keys of single families.
pub(crate) fn to_json(config: &GptConfig, family: &Family) -> Value {
    json!({
        "architectures": [family.class],
        "model_type": family.model_type,
        "hidden_act": "silu",
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.block_size,
        "hidden_size": config.n_embd,
        "intermediate_size": config.n_inner(),
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.attention.n_head,
        "num_key_value_heads": config.n_kv_head(),
        "head_dim": config.head_dim(),
        "rms_norm_eps": config.norm.epsilon,
        // For version 5 of transformers and for earlier ones.
        "rope_parameters": { "rope_type": "default", "rope_theta": config.position.rope_theta },
        "rope_theta": config.position.rope_theta,
        "attention_dropout": config.dropout,
        "initializer_range": 0.02,
        "tie_word_embeddings": config.tie_embeddings,
        "kindling": Extension { dropout: config.dropout, zero_init: config.zero_init },
    })
}

/// Parses the common keys. `head_dim` is the family's default; without one it is `hidden_size / num_attention_heads`.
pub(crate) fn from_json(file: &Value, head_dim: Option<usize>) -> Result<GptConfig, ConfigProblem> {
    let file = ConfigFile::deserialize(file)?;
    // Two names of the same function.
    if !["silu", "swish"].contains(&file.hidden_act.as_str()) {
        return Err(unsupported("hidden_act", file.hidden_act, "\"silu\""));
    }
    if file.use_sliding_window {
        return Err(unsupported("use_sliding_window", true, "false"));
    }
    if let Some(other) = file.layer_types.iter().find(|ty| *ty != "full_attention") {
        return Err(unsupported("layer_types", [other], "\"full_attention\""));
    }
    let rope_theta = rope_theta(&file)?;
    let &ConfigFile { hidden_size, num_attention_heads: n_head, .. } = &file;
    let derived = hidden_size.checked_div(n_head);
    let head_dim = file.head_dim.or(head_dim);
    let base = base();
    let config = GptConfig {
        vocab_size: file.vocab_size,
        block_size: file.max_position_embeddings,
        n_layer: file.num_hidden_layers,
        n_embd: hidden_size,
        dropout: file.kindling.dropout,
        tie_embeddings: file.tie_word_embeddings,
        zero_init: file.kindling.zero_init,
        attention: AttentionConfig {
            n_head,
            n_kv_head: file.num_key_value_heads.filter(|&n_kv_head| n_kv_head != n_head),
            head_dim: head_dim.filter(|&dim| Some(dim) != derived || !hidden_size.is_multiple_of(n_head)),
            ..base.attention
        },
        position: PositionConfig { rope_theta, ..base.position },
        norm: NormConfig { epsilon: file.rms_norm_eps, ..base.norm },
        ..base
    };
    // The default width is left out, as in a recipe.
    let is_default = hidden_size < usize::MAX / 16 && config.n_inner() == file.intermediate_size;
    let n_inner = Some(file.intermediate_size).filter(|_| !is_default);
    Ok(GptConfig { feed_forward: FeedForwardConfig { n_inner, ..config.feed_forward }, ..config })
}

/// A bool key, by default false.
pub(crate) fn flag(file: &Value, key: &str) -> Result<bool, ConfigProblem> {
    Ok(file.get(key).map_or(Ok(false), bool::deserialize)?)
}

/// The RoPE base. Scaled positions and partial rotation are refused.
fn rope_theta(file: &ConfigFile) -> Result<f64, ConfigProblem> {
    let given = [("rope_parameters", &file.rope_parameters), ("rope_scaling", &file.rope_scaling)];
    let mut theta = None;
    for (key, value) in given {
        let Some(value) = value else { continue };
        // `type` is the older name.
        let ty = [&value["rope_type"], &value["type"]].into_iter().find(|ty| !ty.is_null());
        let is_partial = value["partial_rotary_factor"].as_f64().is_some_and(|factor| factor < 1.0);
        // Linear scaling by 1 has no effect.
        let is_unscaled =
            |ty: &Value| ty == "default" || (ty == "linear" && value["factor"].as_f64() == Some(1.0));
        if !value.is_object() || ty.is_some_and(|ty| !is_unscaled(ty)) || is_partial {
            return Err(unsupported(key, value, "null or \"rope_type\": \"default\" with whole heads"));
        }
        theta = theta.or(value["rope_theta"].as_f64());
    }
    Ok(theta.or(file.rope_theta).unwrap_or(DEFAULT_THETA))
}
