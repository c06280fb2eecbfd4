//! `kindling import`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use burn::prelude::Device;
use checkpoint::RunFolder;
use console::{program, report};
use engine::{HubName, Model, Models, WeightStorage, is_gguf, load_nanogpt_model, quoted};
use formats::weights::FloatType;
use journal::summary::count;

use crate::{
    hub::{DownloadBar, from_env},
    model_args::models,
    usage::bail_usage,
};

/// Imports a model as a run.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Generating, evaluating, scoring and exporting need no import: name a Hugging Face folder or GGUF
file as MODEL. Importing copies the model to a run folder, as f32 in one file.

On the Hugging Face hub, OWNER/NAME is a model, OWNER/NAME@REVISION a branch, tag or commit of it,
and OWNER/NAME:QUANTIZATION one of its GGUF files. Environment variables: HF_TOKEN is the token for
gated and private models, HF_ENDPOINT the URL of another hub, HF_HOME the cache folder;
HF_HUB_OFFLINE=1 uses only the cache.

Examples:
  kindling import openai-community/gpt2             from the Hugging Face hub
  kindling import HuggingFaceTB/SmolLM2-135M@main
  kindling import bartowski/SmolLM2-135M-Instruct-GGUF:Q8_0
  kindling import ../nanoGPT/out/ckpt.pt --tokenizer ../nanoGPT/data/shakespeare_char/meta.pkl
  kindling import downloads/gpt2-medium --run medium
  kindling import downloads/SmolLM2-135M.Q4_1.gguf --run smol"
)]
pub(crate) struct Args {
    /// Hugging Face folder, GGUF file, nanoGPT's ckpt.pt, or name of a model on the hub.
    #[arg(value_name = "PATH or NAME")]
    source: PathBuf,

    /// Name or path of the new run; without it, the name of the model.
    #[arg(long, value_name = "RUN")]
    run: Option<PathBuf>,

    /// Tokenizer of a ckpt.pt: gpt2, byte, nanoGPT's meta.pkl or a tokenizer.json; without it, the meta.pkl beside the
    /// checkpoint, or gpt2 if the vocabulary has GPT-2's size.
    #[arg(long, value_name = "FILE or NAME")]
    tokenizer: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (models, device) = (models(), Device::flex());
    let (path, stem) = locate(&args, &models)?;
    let Model { gpt, tokenizer, special_tokens } = if path.is_file() && !is_gguf(&path) {
        load_nanogpt_model(&path, args.tokenizer.as_deref(), &device)?
    } else {
        refuse_tokenizer(&args)?;
        let source = models.open(&path)?;
        source.load_with(source.load_tokenizer()?, WeightStorage::Owned, &device)?
    };
    let run = match &args.run {
        Some(run) => models.run_path(run),
        None => RunFolder::next_path(&models.runs, &stem),
    };
    let run = RunFolder::create_model(&run, &gpt, &tokenizer, &special_tokens, FloatType::F32)?;
    let name = quoted(&run.path().display().to_string());
    report(format_args!(
        "imported {} to {}: {} parameters; generate text with: {} generate {name}",
        args.source.display(),
        run.path().display(),
        count(gpt.config().n_params() as u64),
        program(),
    ));
    Ok(ExitCode::SUCCESS)
}

/// The file or folder to import, and the name of its run. A local path takes precedence over a model on the hub.
fn locate(args: &Args, models: &Models) -> anyhow::Result<(PathBuf, String)> {
    let path = &args.source;
    if models.exists(path) {
        return Ok((path.clone(), stem(path)));
    }
    let name = path.to_str().with_context(|| format!("there is no file or folder {}", path.display()))?;
    let name = HubName::parse(name)?;
    refuse_tokenizer(args)?;
    let path = from_env().download(&name, models, &DownloadBar::new())?;
    let stem = if is_gguf(&path) { stem(&path) } else { name.model().to_owned() };
    Ok((path, stem))
}

fn refuse_tokenizer(args: &Args) -> anyhow::Result<()> {
    match args.tokenizer {
        Some(_) => bail_usage!("--tokenizer is for a ckpt.pt; {} has its own", args.source.display()),
        None => Ok(()),
    }
}

/// The run's name: that of the folder or GGUF file, or of the folder around a checkpoint.
fn stem(source: &Path) -> String {
    let named = match source.is_file() {
        true if is_gguf(source) => source.file_stem(),
        true => source.parent().and_then(Path::file_name).or(source.file_stem()),
        false => source.file_name(),
    };
    named.map_or_else(|| "imported".to_owned(), |name| name.to_string_lossy().into_owned())
}
