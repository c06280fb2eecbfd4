//! Says what a folder holds in place of a model that can be opened, and how to get one from it.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{Error, error::quoted};

/// Weights of other programs that can't be read, and whose they are.
const UNREAD_WEIGHTS: [(&str, &str); 6] = [
    ("tf_model.h5", "TensorFlow"),
    ("flax_model.msgpack", "Flax"),
    ("rust_model.ot", "rust-bert"),
    ("weights.npz", "MLX"),
    ("consolidated.00.pth", "Meta"),
    ("consolidated.safetensors", "Mistral"),
];

/// Why a folder is no model: the error that names what is there, or else the missing file.
pub(crate) fn not_a_model(path: &Path, missing: &'static str) -> Error {
    let names = file_names(path);
    let found = adapter(path).or_else(|| weights(&names, missing)).or_else(|| gguf(path, &names));
    match found {
        Some(reason) => Error::OtherModel { path: path.to_owned(), reason },
        None => Error::NotAModel { path: path.to_owned(), missing },
    }
}

/// What a folder says of the model that its adapter was trained on.
pub(crate) fn adapter(path: &Path) -> Option<String> {
    const FILE: &str = "adapter_config.json";
    let text = fs::read_to_string(path.join(FILE)).ok()?;
    let file: Value = serde_json::from_str(&text).unwrap_or_default();
    let kind = file["peft_type"].as_str().unwrap_or("PEFT").replace("LORA", "LoRA");
    let base = file["base_model_name_or_path"].as_str();
    let has_tokenizer = path.join("tokenizer_config.json").is_file();
    Some(format!(
        "is a {kind} adapter of {} ({FILE}), not a model; {}",
        base.unwrap_or("another model"),
        merge_advice(&path.display().to_string(), None, base.filter(|_| !has_tokenizer))
    ))
}

/// How to merge an adapter, a folder or a name on the hub, into the model it was trained on. The tokenizer is that model's
/// if it is given, else that of the adapter.
#[must_use]
pub fn merge_advice(adapter: &str, revision: Option<&str>, base: Option<&str>) -> String {
    let at = revision.map_or_else(String::new, |revision| format!(", revision={revision:?}"));
    let adapter = format!("{adapter:?}{at}");
    let tokenizer = base.map_or_else(|| adapter.clone(), |base| format!("{base:?}"));
    let code = format!(
        "from peft import AutoPeftModelForCausalLM; from transformers import AutoTokenizer; \
         AutoPeftModelForCausalLM.from_pretrained({adapter}).merge_and_unload().save_pretrained(\"merged\"); \
         AutoTokenizer.from_pretrained({tokenizer}).save_pretrained(\"merged\")"
    );
    format!("merge the two, then use the folder `merged`: {}", python(&code))
}

/// The shell command that runs some Python.
pub(crate) fn python(code: &str) -> String {
    format!("python3 -c {}", quoted(code))
}

fn weights(names: &[String], missing: &str) -> Option<String> {
    let has = |name: &str| names.iter().any(|found| found == name);
    for (first, last, index) in [
        ("model-", ".safetensors", "model.safetensors.index.json"),
        ("pytorch_model-", ".bin", "pytorch_model.bin.index.json"),
    ] {
        let is_shard =
            |name: &&String| name.starts_with(first) && name.ends_with(last) && name.contains("-of-");
        if let Some(shard) = names.iter().find(is_shard).filter(|_| !has(index)) {
            return Some(format!(
                "has weights in shards, such as {shard}, and no {index}; put the index that belongs to them beside them"
            ));
        }
    }
    let is_read = ["model.safetensors", "pytorch_model.bin"].into_iter().find(|name| has(name));
    if let Some(weights) = is_read {
        return Some(format!(
            "has weights ({weights}) and no {missing}; put the {missing} that belongs to them beside them"
        ));
    }
    let (file, program) = UNREAD_WEIGHTS.into_iter().find(|(file, _)| has(file))?;
    Some(format!(
        "has its weights in {program}'s {file}, which can't be read; convert them to model.safetensors in Hugging Face \
         layout"
    ))
}

/// A GGUF file is a model by itself.
fn gguf(folder: &Path, names: &[String]) -> Option<String> {
    let file = names.iter().find(|name| name.to_lowercase().ends_with(".gguf"))?;
    Some(format!("is a folder with GGUF files; name the file: {}", folder.join(file).display()))
}

/// Sorted.
fn file_names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

/// Why there is no tokenizer, if another file than those that are read has one.
pub(crate) fn unread_tokenizer(folder: &Path) -> Option<String> {
    let found = ["tokenizer.model", "spiece.model"].into_iter().find(|name| folder.join(name).is_file())?;
    Some(format!(
        "has its tokenizer as SentencePiece's {found}, and no tokenizer.json; make one: {}",
        python(&format!(
            "from transformers import AutoTokenizer; AutoTokenizer.from_pretrained({0:?}).save_pretrained({0:?})",
            folder.display().to_string()
        ))
    ))
}

/// How the weights of a `config.json` are quantized, if they are; bitsandbytes leaves its settings in the file of weights
/// that are not.
pub(crate) fn quantization(config: &Value) -> Option<String> {
    let settings = [&config["quantization_config"], &config["quantization"]];
    let settings = settings.into_iter().find(|settings| settings.is_object())?;
    match settings["quant_method"].as_str() {
        Some("bitsandbytes") => None,
        Some(method) => Some(method.to_owned()),
        // What mlx_lm writes has no name in it.
        None if settings["bits"].is_number() && settings["group_size"].is_number() => Some("MLX".to_owned()),
        None => None,
    }
}

/// How weights are quantized, by the names of the tensors that go with it.
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

/// What is said of quantized weights.
pub(crate) fn is_quantized(method: &str) -> String {
    format!(
        "its weights are quantized ({method}), which can't be read; take the model that they were made from, or a GGUF \
         file of it as f16, q8_0, q4_0 or q4_1"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reason(files: &[(&str, &str)], missing: &'static str) -> String {
        let folder = tempfile::tempdir().expect("there is room");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("there is room");
        }
        not_a_model(folder.path(), missing).to_string()
    }

    #[test]
    fn a_folder_is_named_for_what_it_holds() {
        let adapter = r#"{"peft_type": "LORA", "base_model_name_or_path": "someone/base"}"#;
        for (files, missing, expected) in [
            (
                &[("adapter_config.json", adapter)][..],
                "config.json",
                "is a LoRA adapter of someone/base (adapter_config.json)",
            ),
            (&[("adapter_config.json", "{")], "config.json", "is a PEFT adapter of another model"),
            (
                &[("model-00001-of-00002.safetensors", ""), ("model-00002-of-00002.safetensors", "")],
                "model.safetensors",
                "has weights in shards, such as model-00001-of-00002.safetensors, and no model.safetensors.index.json",
            ),
            (
                &[("pytorch_model-00001-of-00001.bin", "")],
                "model.safetensors",
                "and no pytorch_model.bin.index.json",
            ),
            (
                &[("model.safetensors", "")],
                "config.json",
                "has weights (model.safetensors) and no config.json; put",
            ),
            (&[("tf_model.h5", "")], "model.safetensors", "in TensorFlow's tf_model.h5, which can't be read"),
            (&[("a.txt", ""), ("small.Q8_0.GGUF", "")], "config.json", "name the file: "),
            (&[("a.txt", "")], "config.json", "is not a model: it has no config.json"),
        ] {
            let reason = reason(files, missing);
            assert!(reason.contains(expected), "{reason} does not say {expected}");
            assert_eq!(reason.lines().count(), 1);
        }
    }

    #[test]
    fn advice_in_python_is_a_whole_command() {
        let advice = merge_advice("it's", None, Some("someone/base"));
        let expected = r#"python3 -c 'from peft import AutoPeftModelForCausalLM; from transformers import AutoTokenizer; AutoPeftModelForCausalLM.from_pretrained("it'\''s").merge_and_unload().save_pretrained("merged"); AutoTokenizer.from_pretrained("someone/base").save_pretrained("merged")'"#;
        assert!(advice.ends_with(expected), "{advice}");
        let advice = merge_advice("me/lora", Some("v1"), None);
        assert!(advice.contains(r#"AutoTokenizer.from_pretrained("me/lora", revision="v1")"#), "{advice}");
    }

    #[test]
    fn quantized_weights_are_known_by_settings_and_by_names() {
        let method = |config: Value| quantization(&config);
        assert_eq!(
            method(json!({"quantization_config": {"quant_method": "awq", "bits": 4}})),
            Some("awq".to_owned())
        );
        let mlx = json!({"group_size": 64, "bits": 4});
        assert_eq!(method(json!({"quantization": mlx})), Some("MLX".to_owned()));
        assert_eq!(method(json!({"quantization_config": mlx})), Some("MLX".to_owned()));
        // They stay behind where a model was loaded in 4 bits and saved in 16.
        assert_eq!(method(json!({"quantization_config": {"quant_method": "bitsandbytes"}})), None);
        assert_eq!(method(json!({"quantization_config": null})), None);
        let of = |name: &'static str| quantization_of(&["model.norm.weight", name]);
        assert_eq!(of("model.layers.0.mlp.up_proj.weight.absmax"), Some("bitsandbytes"));
        assert_eq!(of("model.layers.0.mlp.up_proj.SCB"), Some("bitsandbytes"));
        assert_eq!(of("model.layers.0.mlp.up_proj.qweight"), Some("GPTQ or AWQ"));
        assert_eq!(of("model.layers.0.mlp.up_proj.weight"), None);
    }
}
