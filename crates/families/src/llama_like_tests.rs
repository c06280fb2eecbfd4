//! Tests of the common keys of `config.json`, with Llama and Qwen3.

use model::GptConfig;
use serde_json::{Value, json};

use crate::{config_problem::ConfigProblem, family::Family, llama, qwen3};

fn round_trip(config: &GptConfig, family: &Family) -> GptConfig {
    (family.from_json)(&(family.to_json)(config)).expect("it was just written")
}

#[test]
fn config_survives_the_round_trip() {
    let qwen3 = GptConfig::debug_modern;
    let mut plain = GptConfig { tie_embeddings: true, ..qwen3() };
    (plain.attention.n_kv_head, plain.attention.head_dim) = (None, None);
    plain.feed_forward.n_inner = None;
    let mut odd = GptConfig { n_embd: 14, dropout: 0.25, zero_init: true, ..qwen3() };
    odd.position.rope_theta = 5e5;
    for config in [qwen3(), plain, odd] {
        assert_eq!(round_trip(&config, &qwen3::FAMILY), config);
        let mut llama = GptConfig { bias: true, ..config };
        llama.attention.qk_norm = false;
        assert_eq!(round_trip(&llama, &llama::FAMILY), llama);
    }
}

#[test]
fn files_of_older_transformers_are_read() {
    let mut config = GptConfig::debug_modern();
    (config.attention.qk_norm, config.position.rope_theta) = (false, 5e5);
    let mut file = (llama::FAMILY.to_json)(&config);
    let keys = file.as_object_mut().expect("it is an object");
    for key in ["rope_parameters", "attention_bias", "mlp_bias", "kindling", "tie_word_embeddings"] {
        keys.remove(key);
    }
    keys.insert("rope_scaling".to_owned(), Value::Null);
    assert_eq!((llama::FAMILY.from_json)(&file).expect("it is supported"), config);
    file["hidden_act"] = json!("swish");
    for unscaled in [json!({ "type": "default" }), json!({ "rope_type": "linear", "factor": 1.0 })] {
        file["rope_scaling"] = unscaled;
        assert_eq!((llama::FAMILY.from_json)(&file).expect("it is supported"), config);
    }
}

#[test]
fn missing_keys_have_the_defaults_of_transformers() {
    let mut file = (qwen3::FAMILY.to_json)(&GptConfig::debug_modern());
    let keys = file.as_object_mut().expect("it is an object");
    for key in ["head_dim", "num_key_value_heads", "rms_norm_eps", "rope_parameters", "rope_theta"] {
        keys.remove(key);
    }
    let read = |family: &Family| (family.from_json)(&file).expect("it is supported");
    let (llama, qwen3) = (read(&llama::FAMILY), read(&qwen3::FAMILY));
    assert_eq!([llama.head_dim(), qwen3.head_dim()], [3, 128]);
    assert_eq!([llama.n_kv_head(), qwen3.n_kv_head()], [4, 4]);
    assert_eq!((llama.norm.epsilon, llama.position.rope_theta), (1e-6, 1e4));
}

#[test]
fn unsupported_options_are_refused_by_name() {
    let scaled = json!({ "factor": 8.0, "rope_theta": 5e5, "rope_type": "llama3" });
    for (family, key, value, expected) in [
        (&llama::FAMILY, "hidden_act", json!("gelu"), "`hidden_act` is \"gelu\"; only \"silu\" is supported"),
        (&qwen3::FAMILY, "attention_bias", json!(true), "`attention_bias` is true; only false is supported"),
        (&qwen3::FAMILY, "use_sliding_window", json!(true), "`use_sliding_window` is true"),
        (
            &qwen3::FAMILY,
            "layer_types",
            json!(["full_attention", "sliding_attention"]),
            "`layer_types` is [\"sliding_attention\"]; only \"full_attention\" is supported",
        ),
        (&llama::FAMILY, "rope_parameters", scaled.clone(), "`rope_parameters` is {\"factor\":8.0"),
        (&llama::FAMILY, "rope_scaling", scaled, "`rope_scaling` is {\"factor\":8.0"),
        (&llama::FAMILY, "rope_scaling", json!({ "type": "linear", "factor": 2 }), "\"factor\":2"),
        (
            &llama::FAMILY,
            "rope_scaling",
            json!({ "type": "linear" }),
            "`rope_scaling` is {\"type\":\"linear\"}",
        ),
        (&qwen3::FAMILY, "rope_parameters", json!({ "partial_rotary_factor": 0.5 }), "with whole heads"),
    ] {
        let mut file = (family.to_json)(&GptConfig::debug_modern());
        file[key] = value;
        match (family.from_json)(&file) {
            Err(ConfigProblem::Unsupported(reason)) => assert!(reason.contains(expected), "{reason}"),
            other => panic!("{key} was accepted: {other:?}"),
        }
    }
}
