//! What Llama and the families made after it share: rotary positions, RMS norms, SwiGLU, grouped queries, and most of
//! their `config.json`.

use model::{
    Activation, AttentionConfig, FeedForwardConfig, GptConfig, NormConfig, NormKind, Position, PositionConfig,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    config_problem::{ConfigProblem, unsupported},
    family::{Family, Need, Stage, option},
};

/// The beginning of all keys but the head's.
pub(crate) const PREFIX: &str = "model.";

/// The ends of the keys of buffers in old files: the angles of rotary positions.
pub(crate) const BUFFERS: &[&str] = &[".rotary_emb.inv_freq"];

/// A model with the options that all of them share, without biases.
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

/// The options that lead to one of them.
pub(crate) fn options(config: &GptConfig) -> Stage {
    Stage {
        choice: Need::equal("position", config.position.kind, Position::Rope),
        others: vec![
            Need::equal("norm", config.norm.kind, NormKind::RmsNorm),
            Need::equal("activation", config.feed_forward.activation, Activation::Swiglu),
        ],
    }
}

/// Without a width of its own for heads, `transformers` divides.
pub(crate) fn whole_heads(config: &GptConfig) -> Need {
    let (n_embd, n_head) = (config.n_embd, config.attention.n_head);
    Need {
        option: format!("{} and {}", option("n_embd", n_embd), option("n_head", n_head)),
        holds: n_embd.is_multiple_of(n_head),
        expected: "an `n_embd` that is a multiple of `n_head`".to_owned(),
    }
}

/// The part of `config.json` that decides the model. Other keys may stand beside these.
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

/// What these `config.json` have no key for. `transformers` keeps and ignores it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Extension {
    /// Of activations while training; theirs is of the weights of attention alone.
    #[serde(default)]
    dropout: f64,
    /// What the model began with.
    #[serde(default)]
    zero_init: bool,
}

fn silu() -> String {
    "silu".to_owned()
}

fn default_epsilon() -> f64 {
    1e-6
}

/// The base of the angles where a file does not say.
const DEFAULT_THETA: f64 = 1e4;

/// `config.json` of a model, without the keys of one family alone.
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
        // As version 5 of transformers has it, and as those before.
        "rope_parameters": { "rope_type": "default", "rope_theta": config.position.rope_theta },
        "rope_theta": config.position.rope_theta,
        "attention_dropout": config.dropout,
        "initializer_range": 0.02,
        "tie_word_embeddings": config.tie_embeddings,
        "kindling": Extension { dropout: config.dropout, zero_init: config.zero_init },
    })
}

/// What the keys that all of them have say of a model. Where a file has no width of heads, it is `head_dim`, or their share
/// of the stream.
pub(crate) fn from_json(file: &Value, head_dim: Option<usize>) -> Result<GptConfig, ConfigProblem> {
    let file = ConfigFile::deserialize(file)?;
    // Two names of one function.
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
    // A width that follows from the others is left to them, as in a recipe.
    let is_usual = hidden_size < usize::MAX / 16 && config.n_inner() == file.intermediate_size;
    let n_inner = Some(file.intermediate_size).filter(|_| !is_usual);
    Ok(GptConfig { feed_forward: FeedForwardConfig { n_inner, ..config.feed_forward }, ..config })
}

/// A key that is true or false, and false where the file lacks it.
pub(crate) fn flag(file: &Value, key: &str) -> Result<bool, ConfigProblem> {
    Ok(file.get(key).map_or(Ok(false), bool::deserialize)?)
}

/// The RoPE base. Scaled positions and partial rotation are refused.
fn rope_theta(file: &ConfigFile) -> Result<f64, ConfigProblem> {
    let given = [("rope_parameters", &file.rope_parameters), ("rope_scaling", &file.rope_scaling)];
    let mut theta = None;
    for (key, value) in given {
        let Some(value) = value else { continue };
        // The second is what it was called before.
        let ty = [&value["rope_type"], &value["type"]].into_iter().find(|ty| !ty.is_null());
        let is_partial = value["partial_rotary_factor"].as_f64().is_some_and(|factor| factor < 1.0);
        // Positions that are divided by one stay as they are.
        let is_unscaled =
            |ty: &Value| ty == "default" || (ty == "linear" && value["factor"].as_f64() == Some(1.0));
        if !value.is_object() || ty.is_some_and(|ty| !is_unscaled(ty)) || is_partial {
            return Err(unsupported(key, value, "null or \"rope_type\": \"default\" with whole heads"));
        }
        theta = theta.or(value["rope_theta"].as_f64());
    }
    Ok(theta.or(file.rope_theta).unwrap_or(DEFAULT_THETA))
}
