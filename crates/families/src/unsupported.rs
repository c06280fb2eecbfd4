//! Folders with a model that can't be opened: identifies the contents and gives a conversion command.

use std::{fs, path::Path};

use serde_json::Value;

use crate::shell::python;

/// Unsupported weight files and the programs that write them.
const UNREAD_WEIGHTS: [(&str, &str); 6] = [
    ("tf_model.h5", "TensorFlow"),
    ("flax_model.msgpack", "Flax"),
    ("rust_model.ot", "rust-bert"),
    ("weights.npz", "MLX"),
    ("consolidated.00.pth", "Meta"),
    ("consolidated.safetensors", "Mistral"),
];

/// Describes a known kind of folder without `missing`, and how to get a model from it. The text follows the path.
pub fn explain_missing(path: &Path, missing: &str) -> Option<String> {
    let names = file_names(path);
    describe_adapter(path).or_else(|| weights(&names, missing)).or_else(|| gguf(path, &names))
}

/// Describes a folder with an adapter, and how to merge it. The text follows the path.
pub fn describe_adapter(path: &Path) -> Option<String> {
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

/// How to merge an adapter (a folder or a name on the hub) into its base model. The tokenizer comes from `base` if it
/// is given, otherwise from the adapter.
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
                "has weights in shards, such as {shard}, but no {index}; put the index into the same folder"
            ));
        }
    }
    let is_read = ["model.safetensors", "pytorch_model.bin"].into_iter().find(|name| has(name));
    if let Some(weights) = is_read {
        return Some(format!(
            "has weights ({weights}) but no {missing}; put the {missing} of the model into the same folder"
        ));
    }
    let (file, program) = UNREAD_WEIGHTS.into_iter().find(|(file, _)| has(file))?;
    Some(format!(
        "has only {program} weights ({file}), which are not supported; convert them to model.safetensors in \
         Hugging Face layout"
    ))
}

fn gguf(folder: &Path, names: &[String]) -> Option<String> {
    let file = names.iter().find(|name| name.to_lowercase().ends_with(".gguf"))?;
    Some(format!("is a folder with GGUF files; give the file: {}", folder.join(file).display()))
}

/// The sorted names of a folder.
fn file_names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

/// Describes an unsupported tokenizer file, and how to convert it. The text follows the path.
pub fn unsupported_tokenizer(folder: &Path) -> Option<String> {
    let found = ["tokenizer.model", "spiece.model"].into_iter().find(|name| folder.join(name).is_file())?;
    Some(format!(
        "has a SentencePiece tokenizer ({found}) but no tokenizer.json; convert it: {}",
        python(&format!(
            "from transformers import AutoTokenizer; AutoTokenizer.from_pretrained({0:?}).save_pretrained({0:?})",
            folder.display().to_string()
        ))
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(files: &[(&str, &str)], missing: &str) -> String {
        let folder = tempfile::tempdir().expect("the disk is not full");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("the disk is not full");
        }
        explain_missing(folder.path(), missing).unwrap_or_default()
    }

    #[test]
    fn the_contents_of_a_folder_are_identified() {
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
                "has weights in shards, such as model-00001-of-00002.safetensors, but no model.safetensors.index.json",
            ),
            (
                &[("pytorch_model-00001-of-00001.bin", "")],
                "model.safetensors",
                "but no pytorch_model.bin.index.json",
            ),
            (
                &[("model.safetensors", "")],
                "config.json",
                "has weights (model.safetensors) but no config.json; put",
            ),
            (
                &[("tf_model.h5", "")],
                "model.safetensors",
                "has only TensorFlow weights (tf_model.h5), which are not supported",
            ),
            (&[("a.txt", ""), ("small.Q8_0.GGUF", "")], "config.json", "give the file: "),
            (&[("a.txt", "")], "config.json", ""),
        ] {
            let reason = reason(files, missing);
            assert!(reason.contains(expected), "{reason} does not contain {expected}");
            assert_eq!(reason.lines().count(), usize::from(!expected.is_empty()));
        }
    }

    #[test]
    fn merge_advice_is_a_complete_command() {
        let advice = merge_advice("it's", None, Some("someone/base"));
        let expected = r#"python3 -c 'from peft import AutoPeftModelForCausalLM; from transformers import AutoTokenizer; AutoPeftModelForCausalLM.from_pretrained("it'\''s").merge_and_unload().save_pretrained("merged"); AutoTokenizer.from_pretrained("someone/base").save_pretrained("merged")'"#;
        assert!(advice.ends_with(expected), "{advice}");
        let advice = merge_advice("me/lora", Some("v1"), None);
        assert!(advice.contains(r#"AutoTokenizer.from_pretrained("me/lora", revision="v1")"#), "{advice}");
    }
}
