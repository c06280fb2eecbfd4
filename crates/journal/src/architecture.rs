//! The architecture options in which a model differs from GPT-2.

use model::GptConfig;
use serde_json::{Value, json};

/// The architecture options that differ from GPT-2, as the keys and values of a recipe's `[model]`.
pub fn architecture_options(config: &GptConfig) -> Vec<(&'static str, Value)> {
    let gpt2 = GptConfig::gpt2();
    let options = [
        ("position", json!(config.position.kind), json!(gpt2.position.kind)),
        ("norm", json!(config.norm.kind), json!(gpt2.norm.kind)),
        ("activation", json!(config.feed_forward.activation), json!(gpt2.feed_forward.activation)),
        ("qk_norm", json!(config.attention.qk_norm), json!(gpt2.attention.qk_norm)),
        ("n_kv_head", json!(config.n_kv_head()), json!(config.attention.n_head)),
        ("head_dim", json!(config.head_dim()), json!(config.n_embd / config.attention.n_head)),
        ("n_inner", json!(config.n_inner()), json!(4 * config.n_embd)),
        ("tie_embeddings", json!(config.tie_embeddings), json!(gpt2.tie_embeddings)),
        ("bias", json!(config.bias), json!(gpt2.bias)),
        ("qkv_bias", json!(config.attention.qkv_bias), json!(gpt2.attention.qkv_bias)),
        ("zero_init", json!(config.zero_init), json!(gpt2.zero_init)),
        ("rope_theta", json!(config.position.rope_theta), json!(gpt2.position.rope_theta)),
        ("norm_epsilon", json!(config.norm.epsilon), json!(gpt2.norm.epsilon)),
    ];
    let different = options.into_iter().filter(|(_, value, usual)| value != usual);
    different.map(|(key, value, _)| (key, value)).collect()
}

/// Architecture options on one line, or "GPT-2" for an empty list.
pub fn describe_options(options: &[(&'static str, Value)]) -> String {
    if options.is_empty() {
        return "GPT-2".to_owned();
    }
    let assignment = |(key, value): &(&str, Value)| match value {
        Value::String(name) => format!("{key} = {name}"),
        value => format!("{key} = {value}"),
    };
    options.iter().map(assignment).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_options_that_differ_from_gpt2_are_listed() {
        let listed = |config: GptConfig| describe_options(&architecture_options(&config));
        assert_eq!(listed(GptConfig::gpt2()), "GPT-2");
        assert_eq!(listed(GptConfig::nanogpt_cpu()), "activation = gelu, bias = false");
        let mut stretched = GptConfig { zero_init: true, ..GptConfig::debug_modern() };
        stretched.position.rope_theta = 5e5;
        assert_eq!(
            listed(stretched),
            "position = rope, norm = rms_norm, activation = swiglu, qk_norm = true, n_kv_head = 2, head_dim = 6, \
             n_inner = 20, tie_embeddings = false, bias = false, zero_init = true, rope_theta = 500000.0, \
             norm_epsilon = 1e-6"
        );
        // The keys are recipe keys.
        let recipe = serde_json::to_value(GptConfig::debug_modern()).unwrap();
        assert!(
            architecture_options(&GptConfig::debug_modern()).iter().all(|(key, value)| recipe[key] == *value)
        );
    }
}
