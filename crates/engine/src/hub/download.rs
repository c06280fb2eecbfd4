use std::path::PathBuf;

use super::{Hub, HubError, HubName, Progress};
#[cfg(feature = "hub")]
use super::{
    client::{Repository, advice_online},
    error::unavailable,
    files, gguf_files,
};
use crate::Models;

#[cfg(feature = "hub")]
impl Hub {
    /// Downloads a model into the cache and returns the path of its folder or GGUF file. Cached files are not
    /// downloaded again.
    ///
    /// Small files are downloaded and checked first, so an unsupported model fails before its weights are downloaded.
    ///
    /// # Errors
    ///
    /// If neither the hub nor the cache has the model, or it is not supported. Always without the feature `hub`.
    pub fn download(
        &self,
        name: &HubName,
        models: &Models,
        progress: &dyn Progress,
    ) -> Result<PathBuf, HubError> {
        let repository = Repository::open(name, self, models)?;
        let chosen = match &name.quantization {
            Some(quantization) => download_gguf(name, &repository, quantization, models, progress),
            None => download_folder(name, &repository, models, progress),
        };
        let path = match repository.is_offline() {
            true => chosen.map_err(HubError::failed(format!(
                "cannot use the cached copy of {}; {} to complete it",
                name.id,
                advice_online(self)
            )))?,
            false => chosen?,
        };
        repository.save_ref()?;
        Ok(path)
    }
}

#[cfg(not(feature = "hub"))]
impl Hub {
    /// Downloads nothing without the feature `hub`.
    ///
    /// # Errors
    ///
    /// Always.
    pub fn download(&self, name: &HubName, _: &Models, _: &dyn Progress) -> Result<PathBuf, HubError> {
        Err(HubError::Unavailable(format!(
            "there is no file or folder {name}, and this kindling was built without the feature `hub`, which downloads \
             models. Build it with that feature, or download the model and give its folder"
        )))
    }
}

#[cfg(feature = "hub")]
fn download_folder(
    name: &HubName,
    repository: &Repository<'_>,
    models: &Models,
    progress: &dyn Progress,
) -> Result<PathBuf, HubError> {
    let names = repository.file_names();
    let chosen = match files::choose(name, &names, &models.program)? {
        files::Choice::Model(chosen) => chosen,
        files::Choice::Adapter => {
            let config = repository.fetch(files::ADAPTER_CONFIG)?;
            return Err(unavailable!("{}", files::describe_adapter(name, &names, &config, &models.program)));
        }
    };
    let failed = || HubError::failed(format!("cannot import {name}; its weights were not downloaded"));
    let config = repository.fetch(files::CONFIG)?;
    let folder =
        config.parent().ok_or_else(|| unavailable!("the cached {} has no parent folder", files::CONFIG))?;
    let folder = checkpoint::RunFolder::open(folder).map_err(failed())?;
    folder.config().map_err(failed())?;
    for file in chosen.small {
        repository.fetch(file)?;
    }
    folder.load_tokenizer().map_err(failed())?;
    for file in chosen.weights {
        repository.fetch_weights(file, progress)?;
    }
    Ok(folder.path().to_owned())
}

#[cfg(feature = "hub")]
fn download_gguf(
    name: &HubName,
    repository: &Repository<'_>,
    quantization: &str,
    models: &Models,
    progress: &dyn Progress,
) -> Result<PathBuf, HubError> {
    let names = repository.file_names();
    let files = gguf_files::choose(name, &names, quantization, &models.program)?;
    gguf_files::check_architecture(name, repository.gguf_architecture())?;
    let paths = files.into_iter().map(|file| repository.fetch_weights(file, progress));
    let paths: Vec<PathBuf> = paths.collect::<Result<_, _>>()?;
    Ok(paths.into_iter().next().expect("a model has at least one file"))
}

#[cfg(all(test, not(feature = "hub")))]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_the_hub_has_its_own_error() {
        let name = HubName::parse("openai-community/gpt2").unwrap();
        let hub =
            Hub { endpoint: Hub::ENDPOINT.into(), cache: PathBuf::new(), token: None, is_offline: true };
        let error = hub.download(&name, &Models::default(), &()).unwrap_err().to_string();
        assert!(error.contains("built without the feature `hub`"), "{error}");
    }
}
