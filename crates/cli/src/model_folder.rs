//! MODEL: the folder or file it names, and which weights in it.

use std::{
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use burn::prelude::Device;
use checkpoint::{GgufFile, Marks, RunFolder};
use model::{Gpt, GptConfig};
use tokenizer::Tokenizer;
use trainer::checkpoint_model;

use crate::{
    console::{did_you_mean, program, quoted},
    device::DeviceArgs,
    history::History,
    usage::bail_usage,
};

/// Where runs are, unless a path says otherwise.
pub(crate) const RUNS: &str = "runs";

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

/// Where a model is.
pub(crate) enum Source {
    Folder(ModelFolder),
    Gguf(Box<GgufFile>),
}

/// A folder with a model, and which of its weights are meant.
pub(crate) struct ModelFolder {
    pub(crate) folder: RunFolder,
    pub(crate) weights: StoredWeights,
}

/// Which weights of a run's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoredWeights {
    /// Those of `model.safetensors`.
    Kept,
    /// Those of the checkpoint of a step.
    Checkpoint(u64),
    /// Those kept of a step that was undone.
    Undone(u64),
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

impl ModelFolder {
    /// The folder of a run with the weights it keeps.
    fn kept(folder: RunFolder) -> Self {
        Self { folder, weights: StoredWeights::Kept }
    }

    pub(crate) fn load_model(&self, device: &Device) -> anyhow::Result<Gpt> {
        Ok(match self.weights {
            StoredWeights::Kept => self.folder.load_model(device)?,
            StoredWeights::Checkpoint(step) => checkpoint_model(&self.folder, step, device)?,
            StoredWeights::Undone(step) => self.folder.load_kept_model(step, device)?,
        })
    }

    /// What the model is called, as a file's name.
    fn name(&self) -> String {
        match self.weights {
            StoredWeights::Kept => self.folder.name(),
            StoredWeights::Checkpoint(step) | StoredWeights::Undone(step) => {
                format!("{}-step-{step}", self.folder.name())
            }
        }
    }
}

impl fmt::Display for ModelFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.folder.path().display();
        match self.weights {
            StoredWeights::Kept => write!(f, "{path}"),
            StoredWeights::Checkpoint(step) | StoredWeights::Undone(step) => write!(f, "{path}@{step}"),
        }
    }
}

impl Source {
    /// The folder or the file.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Folder(model) => model.folder.path(),
            Self::Gguf(file) => file.path(),
        }
    }

    /// What the model is called.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Folder(model) => model.name(),
            Self::Gguf(file) => file.path().file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }

    /// The tokens at which a text begins and ends.
    pub(crate) fn marks(&self) -> Marks {
        match self {
            Self::Folder(model) => model.folder.marks(),
            Self::Gguf(file) => file.marks().clone(),
        }
    }

    /// The model with its weights, and its tokenizer.
    pub(crate) fn load(&self, device: &Device) -> anyhow::Result<(Gpt, Tokenizer)> {
        let (model, tokenizer) = match self {
            Self::Folder(model) => (model.load_model(device)?, model.folder.load_tokenizer()?),
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
            Some(path) => Ok(Source::Folder(find(path)?)),
            None => Ok(Source::Folder(ModelFolder::kept(newest()?))),
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

/// The folder that MODEL names, with the weights that it names: RUN, RUN@STEP, RUN@last, or a checkpoint's folder.
pub(crate) fn find(path: &Path) -> anyhow::Result<ModelFolder> {
    if let Some(step) = step_of_checkpoint(path)
        && let Some(run) = path.parent().and_then(Path::parent)
        && is_model(run)
    {
        return Ok(ModelFolder { folder: open(run)?, weights: StoredWeights::Checkpoint(step) });
    }
    if let Some((run, which)) = split_at_sign(path) {
        let folder = open(run)?;
        let weights = which_weights(&folder, which)?;
        return Ok(ModelFolder { folder, weights });
    }
    open(path).map(ModelFolder::kept)
}

/// Whether a path names weights of a run that is there, by an @.
pub(crate) fn names_weights(path: &Path) -> bool {
    split_at_sign(path).is_some_and(|(run, _)| path_of(run).is_dir())
}

/// RUN and the weights in RUN@WEIGHTS. A file or folder that has an @ in its name is meant as it is.
fn split_at_sign(path: &Path) -> Option<(&Path, &str)> {
    let (run, which) = path.to_str()?.rsplit_once('@')?;
    (!run.is_empty() && !path_of(path).exists()).then_some((Path::new(run), which))
}

/// The weights that stand behind an @.
fn which_weights(folder: &RunFolder, which: &str) -> anyhow::Result<StoredWeights> {
    let path = folder.path().display();
    let (steps, undone) = (folder.checkpoint_steps()?, folder.kept_steps());
    let kept = History::open(folder.clone())?.kept_step();
    let Some(step) = (match which {
        "best" => return Ok(StoredWeights::Kept),
        "last" => Some(*steps.last().with_context(|| format!("{path} has no checkpoints"))?),
        number => number.parse().ok(),
    }) else {
        bail_usage!("{path}@{which}: behind the @ stands a step, or `last`, or `best`");
    };
    if steps.contains(&step) {
        return Ok(StoredWeights::Checkpoint(step));
    }
    if kept == Some(step) {
        return Ok(StoredWeights::Kept);
    }
    if undone.contains(&step) {
        return Ok(StoredWeights::Undone(step));
    }
    let mut all: Vec<u64> = steps.into_iter().chain(kept).chain(undone).collect();
    all.sort_unstable();
    all.dedup();
    let all: Vec<String> = all.iter().map(|step| format!("{path}@{step}")).collect();
    bail!(
        "{path} has no weights of step {step}; it has {}. A run keeps more with --set schedule.keep_every=N",
        if all.is_empty() { "no checkpoints".to_owned() } else { all.join(", ") }
    );
}

/// The step of a checkpoint, by the name of its folder.
fn step_of_checkpoint(path: &Path) -> Option<u64> {
    let parent = path.parent()?.file_name()?;
    let step = path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()?;
    (parent == "checkpoints" && path.is_dir()).then_some(step)
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
            "{} is a GGUF file; import it first, and name the run: {} import {} --run NAME",
            folder.display(),
            program(),
            quoted(&folder.display().to_string())
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

/// A run's folder: the path as it stands if a model or a file is there, else the run of that name. A folder of another kind, as
/// one of texts, does not hide the run of its name.
pub(crate) fn path_of(path: &Path) -> PathBuf {
    let named = Path::new(RUNS).join(path);
    let is_taken = path.is_file() || is_model(path) || (path.exists() && !is_model(&named));
    if !is_taken && path.components().count() == 1 && named.exists() { named } else { path.to_owned() }
}

/// Whether a path is the folder of a model.
fn is_model(path: &Path) -> bool {
    path.join("config.json").is_file()
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
