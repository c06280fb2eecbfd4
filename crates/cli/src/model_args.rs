//! MODEL and `--device`, and where models are.

use std::path::PathBuf;

use console::program;
use engine::{Memory, Model, ModelFolder, Models, Source};

use crate::{allocator, device::DeviceArgs};

/// MODEL, for every command that looks at one.
#[derive(Debug, clap::Args)]
pub(crate) struct FolderArgs {
    /// A run's folder or name, a Hugging Face folder or a GGUF file; without it, the newest run. RUN@last and RUN@STEP
    /// are the weights of a run's checkpoint, as is the checkpoint's folder.
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,
}

/// MODEL and `--device`, for every command that runs one.
#[derive(Debug, clap::Args)]
pub(crate) struct ModelArgs {
    #[command(flatten)]
    folder: FolderArgs,

    #[command(flatten)]
    device: DeviceArgs,
}

impl ModelArgs {
    /// Whether the model is to run on the processor.
    pub(crate) fn is_on_cpu(&self) -> bool {
        self.device.is_cpu()
    }

    /// The model for inference, and where it is.
    pub(crate) fn open(&self) -> anyhow::Result<(Source, Model)> {
        self.open_in(Memory::Mapped)
    }

    /// As [`ModelArgs::open`], with its weights where `memory` says.
    pub(crate) fn open_in(&self, memory: Memory) -> anyhow::Result<(Source, Model)> {
        let device = self.device.open()?;
        let source = self.folder.open()?;
        let tokenizer = source.load_tokenizer()?;
        allocator::give_back();
        let model = source.load_with(tokenizer, memory, &device)?;
        Ok((source, model))
    }
}

impl FolderArgs {
    /// The folder or file, without reading its weights.
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
