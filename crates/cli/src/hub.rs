//! Models of the Hugging Face hub.

#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
mod files;
#[cfg(feature = "hub")]
mod gguf_files;
mod name;

use std::path::PathBuf;

pub(crate) use self::name::HubName;

/// Downloads a model into the cache that Python's `huggingface_hub` uses too: its folder, or its GGUF file.
///
/// Small files come first, so that a model that cannot be imported is refused before its weights are downloaded.
#[cfg(feature = "hub")]
pub(crate) fn download(name: &HubName) -> anyhow::Result<PathBuf> {
    use anyhow::Context;

    let repository = client::Repository::open(name)?;
    let chosen = match &name.quantization {
        Some(quantization) => download_gguf(name, &repository, quantization),
        None => download_folder(name, &repository),
    };
    let path = match repository.is_offline() {
        true => chosen.with_context(|| {
            format!(
                "cannot use the copy of {} in the cache; {} to complete it",
                name.id,
                client::advice_online()
            )
        })?,
        false => chosen?,
    };
    repository.remember()?;
    Ok(path)
}

/// Without the feature there is no hub.
#[cfg(not(feature = "hub"))]
pub(crate) fn download(name: &HubName) -> anyhow::Result<PathBuf> {
    anyhow::bail!(
        "there is no file or folder {name}. This kindling cannot download it from the hub: it was built without the \
         feature `hub`. Build it with that feature, or download the model and name its folder"
    )
}

#[cfg(feature = "hub")]
fn download_folder(name: &HubName, repository: &client::Repository<'_>) -> anyhow::Result<PathBuf> {
    use anyhow::{Context, bail};
    use checkpoint::RunFolder;

    let names = repository.file_names();
    let chosen = match files::choose(name, &names)? {
        files::Choice::Model(chosen) => chosen,
        files::Choice::Adapter => {
            let config = repository.fetch(files::ADAPTER_CONFIG)?;
            bail!("{}", files::describe_adapter(name, &names, &config));
        }
    };
    let refused = || format!("cannot import {name}, whose weights are not downloaded");
    let config = repository.fetch(files::CONFIG)?;
    let folder = RunFolder::open(config.parent().context("the cache of the hub has no folder")?)?;
    folder.config().with_context(refused)?;
    for file in chosen.small {
        repository.fetch(file)?;
    }
    folder.load_tokenizer().with_context(refused)?;
    for file in chosen.weights {
        repository.fetch_weights(file)?;
    }
    Ok(folder.path().to_owned())
}

#[cfg(feature = "hub")]
fn download_gguf(
    name: &HubName,
    repository: &client::Repository<'_>,
    quantization: &str,
) -> anyhow::Result<PathBuf> {
    let names = repository.file_names();
    let file = gguf_files::choose(name, &names, quantization)?;
    gguf_files::check_architecture(name, repository.gguf_architecture())?;
    repository.fetch_weights(file)
}

#[cfg(all(test, not(feature = "hub")))]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_the_hub_says_so() {
        let name = HubName::parse("openai-community/gpt2").unwrap();
        let error = download(&name).unwrap_err().to_string();
        assert!(error.contains("built without the feature `hub`"), "{error}");
    }
}
