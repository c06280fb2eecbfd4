//! Mistral: a Llama without biases. A sliding window is only supported if it covers the whole context.

use model::GptConfig;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    config_problem::{ConfigProblem, unsupported},
    family::{Family, Need, Stage},
    llama, llama_like,
};

/// In llama.cpp, Mistral has the architecture `llama`.
pub(crate) static FAMILY: Family = Family {
    model_type: "mistral",
    name: "Mistral",
    class: "MistralForCausalLM",
    architecture: "llama",
    base: llama_like::base,
    options,
    to_json,
    from_json,
    without_bias: |_| None,
    names: llama::NAMES,
    extra_gguf_keys: llama::extra_gguf_keys,
    unsupported_by_llama_cpp: |_| None,
};

/// The sliding window in `transformers` if the key is missing; `null` disables it.
const DEFAULT_WINDOW: usize = 4096;

fn options(config: &GptConfig) -> Vec<Stage> {
    // Only chosen explicitly: the options alone make a Llama.
    let chosen = Stage {
        choice: Need::equal("family", config.family.as_deref(), Some(FAMILY.model_type)),
        others: vec![
            Need::equal("qk_norm", config.attention.qk_norm, false),
            Need::equal("bias", config.bias, false),
            Need::equal("qkv_bias", config.attention.qkv_bias, false),
        ],
    };
    vec![llama_like::options(config), chosen]
}

fn to_json(config: &GptConfig) -> Value {
    let mut file = llama_like::to_json(config, &FAMILY);
    file["sliding_window"] = json!(null);
    file
}

fn from_json(file: &Value) -> Result<GptConfig, ConfigProblem> {
    let config = llama_like::from_json(file, None)?;
    let window = file.get("sliding_window").map_or(Ok(Some(DEFAULT_WINDOW)), Option::<usize>::deserialize)?;
    match window.filter(|&window| window < config.block_size) {
        Some(window) => {
            let block_size = config.block_size;
            let supported = format!("null or at least `max_position_embeddings` = {block_size}");
            Err(unsupported("sliding_window", window, &supported))
        }
        None => Ok(config),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sliding_window_in_use_is_refused() {
        let mut config = GptConfig { family: None, ..GptConfig::debug_modern() };
        config.attention.qk_norm = false;
        let mut file = to_json(&config);
        let mut read = |window: Value| {
            file["sliding_window"] = window;
            from_json(&file)
        };
        for none in [json!(null), json!(8), json!(4096)] {
            assert_eq!(read(none).expect("the window covers the context"), config);
        }
        match read(json!(7)) {
            Err(ConfigProblem::Unsupported(reason)) => assert_eq!(
                reason,
                "`sliding_window` is 7; only null or at least `max_position_embeddings` = 8 is supported"
            ),
            other => panic!("a window was accepted: {other:?}"),
        }
        assert!(matches!(read(json!("wide")), Err(ConfigProblem::Json(_))));
        // The first version's file has no such key and a longer context.
        let mut old = to_json(&GptConfig { block_size: 32_768, ..config });
        old.as_object_mut().expect("it is an object").remove("sliding_window");
        assert!(
            matches!(from_json(&old), Err(ConfigProblem::Unsupported(reason)) if reason.contains("is 4096"))
        );
    }
}
