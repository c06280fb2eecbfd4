//! Models of the Hugging Face hub.

use std::path::PathBuf;

use anyhow::bail;

/// The folder of a model of the hub, downloaded into the cache that Python's `huggingface_hub` uses too.
#[cfg(feature = "hub")]
pub(crate) fn download(name: &str) -> anyhow::Result<PathBuf> {
    use anyhow::Context;
    use hf_hub::api::sync::ApiBuilder;

    check_name(name)?;
    let no_model = || {
        format!(
            "there is no file or folder {name}, and the hub gives no model of that name; is there a network?"
        )
    };
    let repository =
        ApiBuilder::from_env().build().context("open the cache of the hub")?.model(name.to_owned());
    let config = repository.get("config.json").with_context(no_model)?;
    let info = repository.info().with_context(no_model)?;
    let files: Vec<String> = info.siblings.into_iter().map(|file| file.rfilename).collect();
    for file in wanted(&files)? {
        repository.get(file).with_context(|| format!("download {file} of {name}"))?;
    }
    config.parent().map(PathBuf::from).context("the cache of the hub has no folder")
}

/// Without the feature there is no hub.
#[cfg(not(feature = "hub"))]
pub(crate) fn download(name: &str) -> anyhow::Result<PathBuf> {
    check_name(name)?;
    bail!("there is no file or folder {name}; to ask the hub for it, build with the feature hub")
}

/// Refuses what can't be the name of a model, so that a mistyped path is told as one.
fn check_name(name: &str) -> anyhow::Result<()> {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let mut parts = name.split('/');
    let is_name = parts.by_ref().take(2).all(is_part) && parts.next().is_none();
    if is_name {
        return Ok(());
    }
    bail!("there is no file or folder {name}, and no model of the hub has such a name");
}

/// Of the files of a model, those to download: the weights in their best form, the tokenizer, and the tokens at which
/// a text ends.
#[cfg_attr(not(feature = "hub"), expect(dead_code, reason = "tested without the hub"))]
fn wanted(files: &[String]) -> anyhow::Result<Vec<&str>> {
    // A name with a folder in it is no file of these, and may lead out of the cache.
    let files: Vec<&str> =
        files.iter().map(String::as_str).filter(|file| !file.contains(['/', '\\'])).collect();
    let has = |name: &str| files.contains(&name);
    let sharded = |index: &str, prefix: &str, suffix: &str| -> Option<Vec<&str>> {
        let shard = |file: &str| file == index || (file.starts_with(prefix) && file.ends_with(suffix));
        has(index).then(|| files.iter().copied().filter(|file| shard(file)).collect())
    };
    let one = |name: &'static str| has(name).then(|| vec![name]);
    let weights = one("model.safetensors")
        .or_else(|| sharded("model.safetensors.index.json", "model-", ".safetensors"))
        .or_else(|| one("pytorch_model.bin"))
        .or_else(|| sharded("pytorch_model.bin.index.json", "pytorch_model-", ".bin"));
    let tokenizer = one("tokenizer.json")
        .or_else(|| (has("vocab.json") && has("merges.txt")).then(|| vec!["vocab.json", "merges.txt"]));
    let ends = one("generation_config.json").unwrap_or_default();
    match (weights, tokenizer) {
        (Some(weights), Some(tokenizer)) => Ok([weights, tokenizer, ends].concat()),
        (None, _) => {
            bail!("it has no weights that can be read: no model.safetensors and no pytorch_model.bin")
        }
        (_, None) => bail!(
            "it has no tokenizer that can be read: no tokenizer.json, and no vocab.json with merges.txt"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_paths() {
        for name in ["gpt2", "openai-community/gpt2", "a/b.c_d-1"] {
            check_name(name).unwrap();
        }
        for path in ["", "/gpt2", "a/b/c", "../gpt2", "./gpt2", "a b", "gpt2/", "a//b"] {
            assert!(check_name(path).is_err(), "{path}");
        }
    }

    #[test]
    fn the_best_form_of_the_weights_is_wanted_alone() {
        let files = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let all =
            files(&["config.json", "pytorch_model.bin", "model.safetensors", "tokenizer.json", "vocab.json"]);
        assert_eq!(wanted(&all).unwrap(), ["model.safetensors", "tokenizer.json"]);
        let old = files(&["pytorch_model.bin", "vocab.json", "merges.txt", "flax_model.msgpack"]);
        assert_eq!(wanted(&old).unwrap(), ["pytorch_model.bin", "vocab.json", "merges.txt"]);
        let shards = files(&[
            "model.safetensors.index.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "generation_config.json",
        ]);
        assert_eq!(wanted(&shards).unwrap().len(), 5);
        let hostile =
            files(&["model.safetensors.index.json", "model-/../../x.safetensors", "tokenizer.json"]);
        assert_eq!(wanted(&hostile).unwrap(), ["model.safetensors.index.json", "tokenizer.json"]);
        assert!(wanted(&files(&["model.safetensors"])).is_err());
        assert!(wanted(&files(&["tf_model.h5", "tokenizer.json"])).is_err());
    }
}
