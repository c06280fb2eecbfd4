//! The arguments MODEL and `--device`, and where models are looked up.

use std::path::PathBuf;

use burn::prelude::Device;
use console::program;
use engine::{Adapter, Model, ModelFolder, Models, Source, WeightStorage};
use families::gguf::FileType;
use tokenizer::{SpecialTokens, Tokenizer};

use crate::{allocator, device::DeviceArgs, file_type::file_type, usage::bail_usage};

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
    adapter: AdapterArgs,

    #[command(flatten)]
    device: DeviceArgs,
}

/// `--adapter`, for commands that run a model.
#[derive(Debug, clap::Args)]
struct AdapterArgs {
    /// LoRA adapter for MODEL: a run of `train lora`, a PEFT folder or a GGUF adapter. An adapter that names its base
    /// model can be MODEL itself.
    #[arg(long = "adapter", value_name = "ADAPTER")]
    path: Option<PathBuf>,
}

impl AdapterArgs {
    /// The adapter, without its matrices.
    fn open(&self) -> anyhow::Result<Option<Adapter>> {
        Ok(self.path.as_deref().map(|path| models().open_adapter(path)).transpose()?)
    }
}

/// `--weights`, for commands that run a model on the CPU.
#[derive(Debug, clap::Args)]
pub(crate) struct WeightsArgs {
    /// Type of the weights in memory, on the CPU: they are quantised as they are loaded. Without it, `eval` and `score`
    /// use f32, and the other commands the types in the file.
    #[arg(long = "weights", value_name = "TYPE", value_parser = file_type(), ignore_case = true, hide_possible_values = true)]
    ty: Option<FileType>,
}

impl WeightsArgs {
    pub(crate) fn is_given(&self) -> bool {
        self.ty.is_some()
    }

    /// The requested storage, or else `default`. Checks that the device supports it.
    pub(crate) fn storage(
        &self,
        default: WeightStorage,
        device: &DeviceArgs,
    ) -> anyhow::Result<WeightStorage> {
        match self.ty {
            None => Ok(default),
            Some(ty) if ty != FileType::F32 && !device.is_cpu() => {
                bail_usage!("--weights {ty} needs the CPU; leave it out, or use --device cpu")
            }
            Some(FileType::F32) => Ok(WeightStorage::Mapped),
            Some(ty) => Ok(WeightStorage::Quantised(ty)),
        }
    }
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
    adapter: AdapterArgs,

    #[command(flatten)]
    device: DeviceArgs,
}

impl ModelArgs {
    pub(crate) fn is_on_cpu(&self) -> bool {
        self.device.is_cpu()
    }

    /// Whether an adapter for the model is given.
    pub(crate) fn has_adapter(&self) -> bool {
        self.adapter.path.is_some()
    }

    /// Loads the model for inference, with the types of weights in the file by default.
    pub(crate) fn load(&self, weights: &WeightsArgs) -> anyhow::Result<(Source, Model)> {
        self.load_with(weights.storage(WeightStorage::AsStored, &self.device)?)
    }

    /// As [`ModelArgs::load`], with f32 weights by default, so that results can be compared.
    pub(crate) fn load_exact(&self, weights: &WeightsArgs) -> anyhow::Result<(Source, Model)> {
        self.load_with(weights.storage(WeightStorage::Mapped, &self.device)?)
    }

    /// Loads the model with the given storage of the weights.
    pub(crate) fn load_with(&self, storage: WeightStorage) -> anyhow::Result<(Source, Model)> {
        let source = self.open()?;
        let model = self.load_source(&source, source.load_tokenizer()?, storage)?;
        Ok((source, model))
    }

    /// Opens the folder or file without reading its weights.
    pub(crate) fn open(&self) -> anyhow::Result<Source> {
        self.folder.open()
    }

    /// Loads the weights of a model that was opened, after its tokenizer.
    pub(crate) fn load_source(
        &self,
        source: &Source,
        tokenizer: (Tokenizer, SpecialTokens),
        storage: WeightStorage,
    ) -> anyhow::Result<Model> {
        let (adapter, device) = (self.adapter.open()?, self.device.open()?);
        allocator::release_free_memory();
        let model = source.load_with(tokenizer, storage, &device)?;
        allocator::release_free_memory(); // Such as the buffers of quantised weights.
        match adapter {
            Some(adapter) => with_adapter(model, &adapter, storage, &device),
            None => Ok(model),
        }
    }
}

/// A model with the updates of an adapter. To owned weights they are added; otherwise they stay separate.
fn with_adapter(
    Model { gpt, tokenizer, special_tokens }: Model,
    adapter: &Adapter,
    storage: WeightStorage,
    device: &Device,
) -> anyhow::Result<Model> {
    let gpt = adapter.add_to(gpt, device)?;
    let gpt = if storage == WeightStorage::Owned { gpt.merged() } else { gpt };
    Ok(Model { gpt, tokenizer, special_tokens })
}

#[cfg(feature = "serve")]
impl ModelsArgs {
    /// Opens the models without reading their weights, with their names.
    pub(crate) fn open(&self) -> anyhow::Result<Vec<(String, Source)>> {
        if self.adapter.path.is_some() && self.models.len() > 1 {
            bail_usage!("--adapter needs a single MODEL");
        }
        let sources = match self.models[..] {
            [] => vec![newest()?],
            _ => self.models.iter().map(|path| models().open(path)).collect::<Result<_, _>>()?,
        };
        Ok(sources.into_iter().map(|source| (source.name(), source)).collect())
    }

    /// Loads the models for inference.
    pub(crate) fn load(
        &self,
        sources: Vec<(String, Source)>,
        weights: &WeightsArgs,
    ) -> anyhow::Result<Vec<(String, Model)>> {
        let storage = weights.storage(WeightStorage::AsStored, &self.device)?;
        let (adapter, device) = (self.adapter.open()?, self.device.open()?);
        let loaded = sources.into_iter().map(|(name, source)| {
            let tokenizer = source.load_tokenizer()?;
            allocator::release_free_memory();
            let model = source.load_with(tokenizer, storage, &device)?;
            Ok(match &adapter {
                Some(adapter) => (name, with_adapter(model, adapter, storage, &device)?),
                None => (name, model),
            })
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
