//! Llama and Qwen3, which is Llama with norms of queries and keys: the names of their weights and their `config.json`.
//!
//! Their linear layers lie as `torch.nn.Linear` has them, `[out, in]`, and apart where ours are one: queries, keys and
//! values, and the two maps of SwiGLU.

use model::{Activation, GptConfig, NormKind, Position};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Architecture, ConfigProblem, unsupported};

/// Module fields and what the checkpoints call them, for the parts outside the blocks.
const OUTER: [(&str, &str); 3] =
    [("token_embedding", "model.embed_tokens"), ("norm", "model.norm"), ("head", "lm_head")];

/// The same for the parts of a block, each one part or several.
const INNER: [(&str, &[&str]); 8] = [
    ("attention_norm", &["input_layernorm"]),
    ("attention.qkv", &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    ("attention.query_norm", &["self_attn.q_norm"]),
    ("attention.key_norm", &["self_attn.k_norm"]),
    ("attention.project", &["self_attn.o_proj"]),
    ("feed_forward_norm", &["post_attention_layernorm"]),
    ("feed_forward.expand", &["mlp.gate_proj", "mlp.up_proj"]),
    ("feed_forward.project", &["mlp.down_proj"]),
];

/// What every key but the head's begins with, in most files and not in all.
pub(crate) const PREFIX: &str = "model.";

/// The key of the token embedding.
pub(crate) const EMBEDDING_KEY: &str = "model.embed_tokens.weight";

/// The key of the head.
pub(crate) const HEAD_KEY: &str = "lm_head.weight";

/// The keys of a parameter, from its path in the model: `blocks.3.feed_forward.expand.weight` becomes
/// `model.layers.3.mlp.gate_proj.weight` and `model.layers.3.mlp.up_proj.weight`.
///
/// # Panics
///
/// If neither model has such a parameter.
pub(crate) fn keys(path: &str) -> Vec<String> {
    let unknown = || -> ! { panic!("{path} has no name in Llama's layout") };
    let (module, leaf) = path.rsplit_once('.').unwrap_or_else(|| unknown());
    let leaf = if leaf == "gamma" { "weight" } else { leaf };
    match module.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
        Some((layer, part)) => {
            let found = INNER.iter().find(|(ours, _)| *ours == part);
            let (_, theirs) = found.unwrap_or_else(|| unknown());
            theirs.iter().map(|part| format!("model.layers.{layer}.{part}.{leaf}")).collect()
        }
        None => {
            let found = OUTER.iter().find(|(ours, _)| *ours == module);
            let (_, theirs) = found.unwrap_or_else(|| unknown());
            vec![format!("{theirs}.{leaf}")]
        }
    }
}

/// Of how many outputs each key of a parameter is; empty where there is one key.
pub(crate) fn outputs(path: &str, config: &GptConfig) -> Vec<usize> {
    if path.contains(".attention.qkv.") {
        config.qkv_widths().to_vec()
    } else if path.contains(".feed_forward.expand.") {
        vec![config.n_inner(); 2]
    } else {
        Vec::new()
    }
}

/// Keys of buffers that old files hold beside the weights: the angles of rotary positions.
pub(crate) fn is_angles(key: &str) -> bool {
    key.ends_with(".rotary_emb.inv_freq")
}

/// What is in the keys of attention, and of nothing else.
pub(crate) const ATTENTION: &str = ".self_attn.";

/// What is in the keys of the feed-forward networks, and of nothing else.
pub(crate) const FEED_FORWARD: &str = ".mlp.";

/// The part of the keys of the matrices without a bias, in a Llama where the others have one.
pub(crate) fn without_bias(config: &Value) -> Option<&'static str> {
    match ["attention_bias", "mlp_bias"].map(|key| config[key] == true) {
        [true, false] => Some(FEED_FORWARD),
        [false, true] => Some(ATTENTION),
        _ => None,
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
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
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

/// What `transformers` takes for `head_dim` in a Qwen3 without one.
const QWEN3_HEAD_DIM: usize = 128;

/// The base of the angles where a file does not say.
const DEFAULT_THETA: f64 = 1e4;

/// `config.json` of a model, but for what is the same in every layout.
pub(super) fn config_to_json(config: &GptConfig, architecture: Architecture) -> Value {
    let mut file = json!({
        "architectures": [architecture.class()],
        "model_type": architecture.model_type(),
        "hidden_act": "silu",
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.block_size,
        "hidden_size": config.n_embd,
        "intermediate_size": config.n_inner(),
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head(),
        "head_dim": config.head_dim(),
        "rms_norm_eps": config.norm_epsilon,
        // As version 5 of transformers has it, and as those before.
        "rope_parameters": { "rope_type": "default", "rope_theta": config.rope_theta },
        "rope_theta": config.rope_theta,
        "attention_bias": config.bias,
        "attention_dropout": config.dropout,
        "initializer_range": 0.02,
        "tie_word_embeddings": config.tie_embeddings,
        "kindling": Extension { dropout: config.dropout, zero_init: config.zero_init },
    });
    if architecture == Architecture::Llama {
        file["mlp_bias"] = json!(config.bias);
    }
    file
}

/// The sizes that a `config.json` describes.
pub(super) fn config_from_json(file: Value, architecture: Architecture) -> Result<GptConfig, ConfigProblem> {
    let file: ConfigFile = serde_json::from_value(file)?;
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
    let is_qwen3 = architecture == Architecture::Qwen3;
    if is_qwen3 && file.attention_bias {
        return Err(unsupported("attention_bias", true, "false"));
    }
    let rope_theta = rope_theta(&file)?;
    let &ConfigFile { hidden_size, num_attention_heads: n_head, .. } = &file;
    let derived = hidden_size.checked_div(n_head);
    let head_dim = file.head_dim.or(is_qwen3.then_some(QWEN3_HEAD_DIM));
    let config = GptConfig {
        vocab_size: file.vocab_size,
        block_size: file.max_position_embeddings,
        n_layer: file.num_hidden_layers,
        n_head,
        n_kv_head: file.num_key_value_heads.filter(|&n_kv_head| n_kv_head != n_head),
        n_embd: hidden_size,
        head_dim: head_dim.filter(|&dim| Some(dim) != derived || !hidden_size.is_multiple_of(n_head)),
        n_inner: Some(file.intermediate_size),
        dropout: file.kindling.dropout,
        bias: file.attention_bias || (file.mlp_bias && !is_qwen3),
        tie_embeddings: file.tie_word_embeddings,
        activation: Activation::Swiglu,
        position: Position::Rope,
        rope_theta,
        norm: NormKind::RmsNorm,
        norm_epsilon: file.rms_norm_eps,
        qk_norm: is_qwen3,
        zero_init: file.kindling.zero_init,
    };
    // A width that follows from the others is left to them, as in a recipe.
    let unset = GptConfig { n_inner: None, ..config.clone() };
    let is_usual = hidden_size < usize::MAX / 16 && unset.n_inner() == file.intermediate_size;
    Ok(if is_usual { unset } else { config })
}

/// The base of the angles. They are those of the positions themselves, neither stretched nor of a part of a head.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(config: &GptConfig, architecture: Architecture) -> GptConfig {
        config_from_json(config_to_json(config, architecture), architecture).expect("it was just written")
    }

    #[test]
    fn paths_become_the_keys_of_their_parts() {
        for (path, expected) in [
            ("token_embedding.weight", &[EMBEDDING_KEY][..]),
            ("norm.gamma", &["model.norm.weight"]),
            ("head.weight", &[HEAD_KEY]),
            ("blocks.11.feed_forward_norm.gamma", &["model.layers.11.post_attention_layernorm.weight"]),
            ("blocks.0.attention.key_norm.gamma", &["model.layers.0.self_attn.k_norm.weight"]),
            ("blocks.0.attention.project.bias", &["model.layers.0.self_attn.o_proj.bias"]),
            (
                "blocks.2.feed_forward.expand.weight",
                &["model.layers.2.mlp.gate_proj.weight", "model.layers.2.mlp.up_proj.weight"],
            ),
        ] {
            assert_eq!(keys(path), expected);
        }
    }

    #[test]
    fn every_key_of_several_has_its_outputs() {
        let config = GptConfig::debug_modern();
        for part in ["attention.qkv", "attention.project", "feed_forward.expand", "feed_forward.project"] {
            let path = format!("blocks.0.{part}.weight");
            assert_eq!(outputs(&path, &config).len().max(1), keys(&path).len(), "{path}");
        }
        assert_eq!(outputs("blocks.0.attention.qkv.bias", &config), [24, 12, 12]);
    }

    #[test]
    fn config_survives_the_round_trip() {
        let qwen3 = GptConfig::debug_modern;
        for config in [
            qwen3(),
            GptConfig { n_kv_head: None, head_dim: None, n_inner: None, tie_embeddings: true, ..qwen3() },
            GptConfig { n_embd: 14, dropout: 0.25, zero_init: true, rope_theta: 5e5, ..qwen3() },
        ] {
            assert_eq!(round_trip(&config, Architecture::Qwen3), config);
            let llama = GptConfig { qk_norm: false, bias: true, ..config };
            assert_eq!(round_trip(&llama, Architecture::Llama), llama);
        }
    }

    #[test]
    fn files_of_older_transformers_say_the_same() {
        let config = GptConfig { qk_norm: false, rope_theta: 5e5, ..GptConfig::debug_modern() };
        let mut file = config_to_json(&config, Architecture::Llama);
        let keys = file.as_object_mut().expect("it is an object");
        for key in ["rope_parameters", "attention_bias", "mlp_bias", "kindling", "tie_word_embeddings"] {
            keys.remove(key);
        }
        keys.insert("rope_scaling".to_owned(), Value::Null);
        assert_eq!(config_from_json(file.clone(), Architecture::Llama).expect("it is supported"), config);
        file["hidden_act"] = json!("swish");
        for unscaled in [json!({ "type": "default" }), json!({ "rope_type": "linear", "factor": 1.0 })] {
            file["rope_scaling"] = unscaled;
            assert_eq!(config_from_json(file.clone(), Architecture::Llama).expect("it is supported"), config);
        }
    }

    #[test]
    fn what_a_file_leaves_out_is_as_in_transformers() {
        let mut file = config_to_json(&GptConfig::debug_modern(), Architecture::Qwen3);
        let keys = file.as_object_mut().expect("it is an object");
        for key in ["head_dim", "num_key_value_heads", "rms_norm_eps", "rope_parameters", "rope_theta"] {
            keys.remove(key);
        }
        let read = |architecture| config_from_json(file.clone(), architecture).expect("it is supported");
        let (llama, qwen3) = (read(Architecture::Llama), read(Architecture::Qwen3));
        assert_eq!([llama.head_dim(), qwen3.head_dim()], [3, 128]);
        assert_eq!([llama.n_kv_head(), qwen3.n_kv_head()], [4, 4]);
        assert_eq!((llama.norm_epsilon, llama.rope_theta), (1e-6, 1e4));
    }

    #[test]
    fn what_a_model_lacks_is_refused_by_name() {
        use Architecture::{Llama, Qwen3};
        let stretched = json!({ "rope_type": "llama3", "factor": 8.0, "rope_theta": 5e5 });
        for (architecture, key, value, expected) in [
            (Llama, "hidden_act", json!("gelu"), "`hidden_act` is \"gelu\"; only \"silu\" is supported"),
            (Qwen3, "attention_bias", json!(true), "`attention_bias` is true; only false is supported"),
            (Qwen3, "use_sliding_window", json!(true), "`use_sliding_window` is true"),
            (
                Qwen3,
                "layer_types",
                json!(["full_attention", "sliding_attention"]),
                "`layer_types` is [\"sliding_attention\"]; only \"full_attention\" is supported",
            ),
            (Llama, "rope_parameters", stretched.clone(), "`rope_parameters` is {\"factor\":8.0"),
            (Llama, "rope_scaling", stretched, "`rope_scaling` is {\"factor\":8.0"),
            (Llama, "rope_scaling", json!({ "type": "linear", "factor": 2 }), "\"factor\":2"),
            (Llama, "rope_scaling", json!({ "type": "linear" }), "`rope_scaling` is {\"type\":\"linear\"}"),
            (Qwen3, "rope_parameters", json!({ "partial_rotary_factor": 0.5 }), "with whole heads"),
        ] {
            let mut file = config_to_json(&GptConfig::debug_modern(), architecture);
            file[key] = value;
            match config_from_json(file, architecture) {
                Err(ConfigProblem::Unsupported(reason)) => assert!(reason.contains(expected), "{reason}"),
                other => panic!("{key} was taken for one of ours: {other:?}"),
            }
        }
    }
}
