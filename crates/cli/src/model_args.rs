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

impl FolderArgs {
    /// Opens the folder or file without reading its weights.
    pub(crate) fn open(&self) -> anyhow::Result<Source> {
        match &self.model {
            Some(path) => Ok(models().open(path)?),
            None => Ok(Source::Folder(ModelFolder::kept(models().newest()?))),
        }
    }
}

/// Where models are looked up by name.
pub(crate) fn models() -> Models {
    Models { program: program().to_owned(), ..Models::default() }
}
