//! The arguments MODEL and `--device`, and where models are looked up.

use std::path::PathBuf;

use console::program;
use engine::{Model, ModelFolder, Models, Source, WeightStorage};

use crate::{allocator, device::DeviceArgs};

/// MODEL, for commands that open a model.
#[derive(Debug, clap::Args)]
pub(crate) struct FolderArgs {
    /// Run (name or folder), Hugging Face folder or GGUF file; without it, the newest run. RUN@last, RUN@STEP and
    /// checkpoint folders select the weights of a checkpoint.
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,
}

/// MODEL and `--device`, for commands that run a model.
#[derive(Debug, clap::Args)]
pub(crate) struct ModelArgs {
    #[command(flatten)]
    folder: FolderArgs,

    #[command(flatten)]
    device: DeviceArgs,
}

/// Several MODELs and `--device`, for a command that runs them together.
#[cfg(feature = "serve")]
#[derive(Debug, clap::Args)]
pub(crate) struct ModelsArgs {
    /// Runs (name or folder), Hugging Face folders or GGUF files; without one, the newest run. RUN@last, RUN@STEP and
    /// checkpoint folders select the weights of a checkpoint.
    #[arg(value_name = "MODEL")]
    models: Vec<PathBuf>,

    #[command(flatten)]
    device: DeviceArgs,
}

impl ModelArgs {
    pub(crate) fn is_on_cpu(&self) -> bool {
        self.device.is_cpu()
    }

    /// Opens the model for inference.
    pub(crate) fn load(&self) -> anyhow::Result<(Source, Model)> {
        self.load_with(WeightStorage::Mapped)
    }

    /// Like [`ModelArgs::load`], with the given storage of the weights.
    pub(crate) fn load_with(&self, storage: WeightStorage) -> anyhow::Result<(Source, Model)> {
        let device = self.device.open()?;
        let source = self.folder.open()?;
        let tokenizer = source.load_tokenizer()?;
        allocator::release_free_memory();
        let model = source.load_with(tokenizer, storage, &device)?;
        Ok((source, model))
    }
}

#[cfg(feature = "serve")]
impl ModelsArgs {
    /// Opens the models without reading their weights, with their names.
    pub(crate) fn open(&self) -> anyhow::Result<Vec<(String, Source)>> {
        let sources = match self.models[..] {
            [] => vec![newest()?],
            _ => self.models.iter().map(|path| models().open(path)).collect::<Result<_, _>>()?,
        };
        Ok(sources.into_iter().map(|source| (source.name(), source)).collect())
    }

    /// Loads the models for inference.
    pub(crate) fn load(&self, sources: Vec<(String, Source)>) -> anyhow::Result<Vec<(String, Model)>> {
        let device = self.device.open()?;
        let loaded = sources.into_iter().map(|(name, source)| {
            let tokenizer = source.load_tokenizer()?;
            allocator::release_free_memory();
            Ok((name, source.load_with(tokenizer, WeightStorage::Mapped, &device)?))
        });
        loaded.collect()
    }
}

impl FolderArgs {
    /// Opens the folder or file without reading its weights.
    pub(crate) fn open(&self) -> anyhow::Result<Source> {
        match &self.model {
            Some(path) => Ok(models().open(path)?),
            None => newest(),
        }
    }
}

/// The newest run.
fn newest() -> anyhow::Result<Source> {
    Ok(Source::Folder(ModelFolder::kept(models().newest()?)))
}

/// Where models are looked up by name.
pub(crate) fn models() -> Models {
    Models { program: program().to_owned(), ..Models::default() }
}
