//! Selects the files of a repository that make a model in Hugging Face layout.

use std::{fs, path::Path};

use families::merge_advice;
use serde_json::Value;

use super::{HubError, HubName, error::unavailable, gguf_files};
use crate::quoted;

pub(crate) const CONFIG: &str = "config.json";
/// The config of a PEFT adapter.
pub(crate) const ADAPTER_CONFIG: &str = "adapter_config.json";

/// Optional small files: special tokens, the chat template, and generation settings.
const OPTIONAL: [&str; 6] = [
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// The kind of model in a repository.
#[derive(Debug)]
pub(crate) enum Choice<'a> {
    Model(ModelFiles<'a>),
    /// A PEFT adapter of another model.
    Adapter,
}

/// The files to download in addition to `config.json`.
#[derive(Debug)]
pub(crate) struct ModelFiles<'a> {
    pub(crate) small: Vec<&'a str>,
    pub(crate) weights: Vec<&'a str>,
}

/// Selects the tokenizer files and one format of the weights, safetensors if possible.
///
/// # Errors
///
/// If the repository has no supported model. The message lists its files.
pub(crate) fn choose<'a>(name: &HubName, files: &[&'a str], program: &str) -> Result<Choice<'a>, HubError> {
    // All needed files are at the top. Names with separators might also lead out of the cache.
    let top: Vec<&str> = files.iter().copied().filter(|file| !file.contains(['/', '\\'])).collect();
    let has = |name: &str| top.contains(&name);
    let Some(weights) = weights(&top) else {
        if has(ADAPTER_CONFIG) {
            return Ok(Choice::Adapter);
        }
        gguf_files::refuse_if_any(name, files, program)?;
        return Err(unavailable!(
            "{name} has no weights that kindling reads: no model.safetensors and no pytorch_model.bin{}",
            listed(&top, is_weights)
        ));
    };
    if !has(CONFIG) {
        if has(ADAPTER_CONFIG) {
            return Ok(Choice::Adapter);
        }
        gguf_files::refuse_if_any(name, files, program)?;
        return Err(unavailable!(
            "{name} has no {CONFIG}, so its architecture and sizes are unknown{}",
            listed(&top, |_| true)
        ));
    }
    let Some(tokenizer) = tokenizer(&top) else {
        return Err(unavailable!(
            "{name} has no tokenizer that kindling reads: no tokenizer.json, and no vocab.json with merges.txt{}",
            listed(&top, |file| file.contains("token") || file.contains("vocab"))
        ));
    };
    let optional = top.iter().copied().filter(|file| OPTIONAL.contains(file));
    Ok(Choice::Model(ModelFiles { small: tokenizer.into_iter().chain(optional).collect(), weights }))
}

/// A message with the base model of an adapter, and how to import the base model or the merged model.
pub(crate) fn describe_adapter(name: &HubName, files: &[&str], config: &Path, program: &str) -> String {
    let base = || -> Option<String> {
        let config: Value = serde_json::from_str(&fs::read_to_string(config).ok()?).ok()?;
        config["base_model_name_or_path"].as_str().map(str::to_owned)
    };
    let base = base();
    let tokenizer = base.as_deref().filter(|_| !files.contains(&"tokenizer_config.json"));
    let merge = merge_advice(&name.id, name.revision.as_deref(), tokenizer);
    match &base {
        Some(base) => format!(
            "{name} is a PEFT adapter of {base}, not a whole model. To use {base} alone: {program} import {}. To use the adapter, \
             {merge}",
            quoted(base)
        ),
        None => format!(
            "{name} is a PEFT adapter, not a whole model; its {ADAPTER_CONFIG} names no base model. To use it, {merge}"
        ),
    }
}

fn weights<'a>(files: &[&'a str]) -> Option<Vec<&'a str>> {
    let one = |name: &str| files.iter().copied().find(|file| *file == name).map(|file| vec![file]);
    let sharded = |index: &str, prefix: &str, suffix: &str| {
        let index = one(index)?;
        let is_shard = |file: &&str| file.starts_with(prefix) && file.ends_with(suffix);
        Some(index.into_iter().chain(files.iter().copied().filter(is_shard)).collect())
    };
    one("model.safetensors")
        .or_else(|| sharded("model.safetensors.index.json", "model-", ".safetensors"))
        .or_else(|| one("pytorch_model.bin"))
        .or_else(|| sharded("pytorch_model.bin.index.json", "pytorch_model-", ".bin"))
}

fn tokenizer<'a>(files: &[&'a str]) -> Option<Vec<&'a str>> {
    let all = |names: &[&str]| -> Option<Vec<&'a str>> {
        names.iter().map(|name| files.iter().copied().find(|file| file == name)).collect()
    };
    all(&["tokenizer.json"]).or_else(|| all(&["vocab.json", "merges.txt"]))
}

/// Whether a file contains weights, in any format.
fn is_weights(file: &str) -> bool {
    const EXTENSIONS: [&str; 9] =
        [".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".ot"];
    EXTENSIONS.iter().any(|extension| file.ends_with(extension))
}

/// A suffix for messages with the first few matching files.
fn listed(files: &[&str], is_listed: impl Fn(&str) -> bool) -> String {
    const MAX_LISTED: usize = 4;
    let found: Vec<&str> = files.iter().copied().filter(|file| is_listed(file)).collect();
    match found.len() {
        0 => String::new(),
        n if n > MAX_LISTED => {
            format!("; it has {} and {} more", found[..MAX_LISTED].join(", "), n - MAX_LISTED)
        }
        _ => format!("; it has {}", found.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> HubName {
        HubName::parse("me/model").unwrap()
    }

    #[track_caller]
    fn chosen<'a>(files: &[&'a str]) -> (Vec<&'a str>, Vec<&'a str>) {
        match choose(&name(), files, "kindling").unwrap() {
            Choice::Model(ModelFiles { small, weights }) => (small, weights),
            Choice::Adapter => panic!("expected a model, found an adapter"),
        }
    }

    fn refused(files: &[&str]) -> String {
        choose(&name(), files, "kindling").unwrap_err().to_string()
    }

    #[test]
    fn one_format_of_the_weights_is_selected() {
        let all = ["config.json", "pytorch_model.bin", "model.safetensors", "tokenizer.json", "vocab.json"];
        assert_eq!(chosen(&all), (vec!["tokenizer.json"], vec!["model.safetensors"]));
        let old = ["config.json", "pytorch_model.bin", "vocab.json", "merges.txt", "flax_model.msgpack"];
        assert_eq!(chosen(&old), (vec!["vocab.json", "merges.txt"], vec!["pytorch_model.bin"]));
        let shards = [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "generation_config.json",
            "training_args.bin",
        ];
        let (small, weights) = chosen(&shards);
        assert_eq!(small, ["tokenizer.json", "tokenizer_config.json", "generation_config.json"]);
        assert_eq!(weights[0], "model.safetensors.index.json");
        assert_eq!(weights[1..], shards[1..3]);
    }

    #[test]
    fn files_outside_the_cache_are_ignored() {
        let hostile =
            ["config.json", "model.safetensors.index.json", "model-/../../x.safetensors", "tokenizer.json"];
        assert_eq!(chosen(&hostile), (vec!["tokenizer.json"], vec!["model.safetensors.index.json"]));
    }

    #[test]
    fn adapters_and_models_are_distinguished() {
        let adapter = ["adapter_config.json", "adapter_model.safetensors", "tokenizer.json"];
        assert!(matches!(choose(&name(), &adapter, "kindling"), Ok(Choice::Adapter)));
        let both = [&adapter[..], &["config.json", "model.safetensors"]].concat();
        assert_eq!(chosen(&both).1, ["model.safetensors"]);
    }

    #[test]
    fn errors_list_missing_and_existing_files() {
        let error = refused(&["config.json", "tf_model.h5", "tokenizer.json"]);
        assert!(
            error.ends_with("no model.safetensors and no pytorch_model.bin; it has tf_model.h5"),
            "{error}"
        );
        let error =
            refused(&["config.json", "model.safetensors", "tokenizer.model", "tokenizer_config.json"]);
        assert!(error.ends_with("; it has tokenizer.model, tokenizer_config.json"), "{error}");
        let error = refused(&["model.safetensors", "a", "b", "c", "d", "e"]);
        assert!(error.contains("no config.json") && error.ends_with("a, b, c and 2 more"), "{error}");
    }
}
