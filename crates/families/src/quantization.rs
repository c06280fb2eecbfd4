//! Detection of quantized weights, which are not supported.

use serde_json::Value;

/// The quantization method in a `config.json`. bitsandbytes is not one: its settings also remain in files of
/// unquantized weights.
pub(crate) fn quantization(config: &Value) -> Option<String> {
    let settings = [&config["quantization_config"], &config["quantization"]];
    let settings = settings.into_iter().find(|settings| settings.is_object())?;
    match settings["quant_method"].as_str() {
        Some("bitsandbytes") => None,
        Some(method) => Some(method.to_owned()),
        // mlx_lm writes no method name.
        None if settings["bits"].is_number() && settings["group_size"].is_number() => Some("MLX".to_owned()),
        None => None,
    }
}

/// The quantization method, by the names of auxiliary tensors.
pub(crate) fn quantization_of(names: &[&str]) -> Option<&'static str> {
    const METHODS: [(&str, &str); 6] = [
        (".SCB", "bitsandbytes"),
        (".weight.absmax", "bitsandbytes"),
        (".weight.quant_map", "bitsandbytes"),
        (".qweight", "GPTQ or AWQ"),
        (".weight_packed", "compressed-tensors"),
        (".weight_scale", "compressed-tensors"),
    ];
    let is_there = |suffix: &str| names.iter().any(|name| name.ends_with(suffix));
    METHODS.into_iter().find(|(suffix, _)| is_there(suffix)).map(|(_, method)| method)
}

/// The error message for quantized weights.
pub(crate) fn is_quantized(method: &str) -> String {
    format!(
        "its weights are quantized ({method}), which is not supported; use the original model, or a GGUF file of it in \
         f16, q8_0, q4_0 or q4_1"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quantization_is_detected_by_settings_and_by_names() {
        let method = |config: Value| quantization(&config);
        assert_eq!(
            method(json!({"quantization_config": {"quant_method": "awq", "bits": 4}})),
            Some("awq".to_owned())
        );
        let mlx = json!({"group_size": 64, "bits": 4});
        assert_eq!(method(json!({"quantization": mlx})), Some("MLX".to_owned()));
        assert_eq!(method(json!({"quantization_config": mlx})), Some("MLX".to_owned()));
        // They remain if a model was loaded in 4 bits and saved in 16.
        assert_eq!(method(json!({"quantization_config": {"quant_method": "bitsandbytes"}})), None);
        assert_eq!(method(json!({"quantization_config": null})), None);
        let method_of = |name: &'static str| quantization_of(&["model.norm.weight", name]);
        assert_eq!(method_of("model.layers.0.mlp.up_proj.weight.absmax"), Some("bitsandbytes"));
        assert_eq!(method_of("model.layers.0.mlp.up_proj.SCB"), Some("bitsandbytes"));
        assert_eq!(method_of("model.layers.0.mlp.up_proj.qweight"), Some("GPTQ or AWQ"));
        assert_eq!(method_of("model.layers.0.mlp.up_proj.weight"), None);
    }
}
