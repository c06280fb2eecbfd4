//! MODEL: which folder or file is meant.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use burn::prelude::Device;
use checkpoint::{GgufFile, Marks, RunFolder};
use model::{Gpt, GptConfig};
use tokenizer::Tokenizer;

use crate::{
    console::{did_you_mean, program},
    device::DeviceArgs,
};

/// Where runs are, unless a path says otherwise.
pub(crate) const RUNS: &str = "runs";

/// MODEL, for every command that looks at one.
#[derive(Debug, clap::Args)]
pub(crate) struct FolderArgs {
    /// A run's folder or name, any folder with a model of Hugging Face's, or a GGUF file; without it, the newest run.
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

/// Where a model is.
pub(crate) enum Source {
    Folder(RunFolder),
    Gguf(Box<GgufFile>),
}

/// A model, ready to use.
pub(crate) struct Opened {
    pub(crate) source: Source,
    pub(crate) model: Gpt,
    pub(crate) tokenizer: Tokenizer,
}

impl ModelArgs {
    /// Whether the model is to run on the processor.
    pub(crate) fn is_on_cpu(&self) -> bool {
        self.device.is_cpu()
    }

    pub(crate) fn open(&self) -> anyhow::Result<Opened> {
        let device = self.device.open()?;
        let source = self.folder.open()?;
        let (model, tokenizer) = source.load(&device)?;
        Ok(Opened { source, model, tokenizer })
    }
}

impl Source {
    /// The folder or the file.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Folder(folder) => folder.path(),
            Self::Gguf(file) => file.path(),
        }
    }

    /// What the model is called.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Folder(folder) => folder.name(),
            Self::Gguf(file) => file.path().file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }

    /// The tokens at which a text begins and ends.
    pub(crate) fn marks(&self) -> Marks {
        match self {
            Self::Folder(folder) => folder.marks(),
            Self::Gguf(file) => file.marks().clone(),
        }
    }

    /// The model with its weights, and its tokenizer.
    pub(crate) fn load(&self, device: &Device) -> anyhow::Result<(Gpt, Tokenizer)> {
        let (model, tokenizer) = match self {
            Self::Folder(folder) => (folder.load_model(device)?, folder.load_tokenizer()?),
            Self::Gguf(file) => (file.load_model(device)?, file.tokenizer().clone()),
        };
        check_vocabulary(&tokenizer, model.config())?;
        Ok((model, tokenizer))
    }
}

impl FolderArgs {
    /// The folder or file, without reading its weights.
    pub(crate) fn open(&self) -> anyhow::Result<Source> {
        match &self.model {
            Some(path) if is_gguf(path) => Ok(Source::Gguf(Box::new(GgufFile::open(path)?))),
            Some(path) => Ok(Source::Folder(open(path)?)),
            None => Ok(Source::Folder(newest()?)),
        }
    }
}

/// Whether a path is a GGUF file that is there, by its name or, as those of a cache have none, by what it begins with.
pub(crate) fn is_gguf(path: &Path) -> bool {
    let begins_so = || {
        let mut magic = [0; 4];
        File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"GGUF"
    };
    let is_named_so = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    path.is_file() && (is_named_so || begins_so())
}

/// The folder of a run or a model that is there.
pub(crate) fn open(path: &Path) -> anyhow::Result<RunFolder> {
    let folder = path_of(path);
    if !folder.exists() {
        bail!(
            "there is no run, folder or GGUF file {}; name a run of {RUNS}/, a folder with a model or a GGUF file{}",
            path.display(),
            suggestion(path)
        );
    }
    if is_gguf(&folder) {
        bail!(
            "{file} is a GGUF file; import it first, and name the run: {} import {file} --run NAME",
            program(),
            file = folder.display()
        );
    }
    Ok(RunFolder::open(&folder)?)
}

/// The run that was probably meant.
fn suggestion(path: &Path) -> String {
    let runs = RunFolder::all(Path::new(RUNS)).unwrap_or_default();
    let names: Vec<String> = runs.iter().map(RunFolder::name).collect();
    let meant = path.file_name().unwrap_or_default().to_string_lossy();
    did_you_mean(&meant, names.iter().map(String::as_str))
}

/// A run's folder: the path as it stands if there is something, else the run of that name.
pub(crate) fn path_of(path: &Path) -> PathBuf {
    let named = Path::new(RUNS).join(path);
    if !path.exists() && path.components().count() == 1 && named.exists() { named } else { path.to_owned() }
}

/// A run by its name is in `runs/`; a path stands as it is.
pub(crate) fn run_path(run: &Path) -> PathBuf {
    if run.components().count() == 1 && run.is_relative() {
        Path::new(RUNS).join(run)
    } else {
        run.to_owned()
    }
}

/// The run that changed last.
pub(crate) fn newest() -> anyhow::Result<RunFolder> {
    RunFolder::newest(Path::new(RUNS))?
        .with_context(|| format!("there is no run in {RUNS}/ yet; train one first: {} train", program()))
}

/// Refuses a tokenizer with tokens that the model lacks; a model may have more than the tokenizer.
pub(crate) fn check_vocabulary(tokenizer: &Tokenizer, config: &GptConfig) -> anyhow::Result<()> {
    let (n_tokens, vocab_size) = (tokenizer.vocab_size(), config.vocab_size);
    if n_tokens > vocab_size {
        bail!("the tokenizer has {n_tokens} tokens and the model {vocab_size}: they do not belong together");
    }
    Ok(())
}
