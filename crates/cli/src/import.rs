//! `kindling import`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use burn::prelude::Device;
use checkpoint::RunFolder;
use console::{program, report};
use engine::{HubName, Memory, Model, Models, is_gguf, open_nanogpt, quoted};
use formats::weights::FloatType;
use journal::words::count;

use crate::{
    hub::{DownloadBar, from_env},
    model_args::models,
    usage::bail_usage,
};

/// Makes a run of a model from elsewhere.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Neither a folder in Hugging Face's layout nor a GGUF file needs an import to be written with or
measured, commands open them where they are; importing copies one into a run of its own, as f32 in one file.

A model of the Hugging Face hub is OWNER/NAME; OWNER/NAME@REVISION is a branch, a tag or a commit of
it, OWNER/NAME:QUANTIZATION one GGUF file. HF_TOKEN is the token for gated and private models,
HF_ENDPOINT another hub, HF_HOME the folder of the cache. HF_HUB_OFFLINE=1 uses the cache alone.

Examples:
  kindling import openai-community/gpt2             from the Hugging Face hub
  kindling import HuggingFaceTB/SmolLM2-135M@main
  kindling import bartowski/SmolLM2-135M-Instruct-GGUF:Q8_0
  kindling import ../nanoGPT/out/ckpt.pt --tokenizer ../nanoGPT/data/shakespeare_char/meta.pkl
  kindling import downloads/gpt2-medium --run medium
  kindling import downloads/SmolLM2-135M.Q4_1.gguf --run smol"
)]
pub(crate) struct Args {
    /// A folder in Hugging Face's layout, a GGUF file, nanoGPT's ckpt.pt, or the name of a model on the hub.
    #[arg(value_name = "PATH or NAME")]
    source: PathBuf,

    /// Name or path of the run to make; without it, called as what is imported.
    #[arg(long, value_name = "RUN")]
    run: Option<PathBuf>,

    /// What a ckpt.pt was trained with: gpt2, byte, nanoGPT's meta.pkl or a tokenizer.json; without it, the meta.pkl
    /// beside it, or gpt2 where the vocabulary is GPT-2's.
    #[arg(long, value_name = "FILE or NAME")]
    tokenizer: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (models, device) = (models(), Device::flex());
    let (path, stem) = locate(&args, &models)?;
    let Model { gpt, tokenizer, special_tokens } = if path.is_file() && !is_gguf(&path) {
        open_nanogpt(&path, args.tokenizer.as_deref(), &device)?
    } else {
        refuse_tokenizer(&args)?;
        let source = models.open(&path)?;
        source.load_with(source.load_tokenizer()?, Memory::Own, &device)?
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

/// The file or folder that is meant, and what its run is called. What is here hides a model of the hub of that name.
fn locate(args: &Args, models: &Models) -> anyhow::Result<(PathBuf, String)> {
    let path = &args.source;
    if models.is_here(path) {
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

/// What the run is called: as the folder or the model, or as the folder that a checkpoint is in.
fn stem(source: &Path) -> String {
    let named = match source.is_file() {
        true if is_gguf(source) => source.file_stem(),
        true => source.parent().and_then(Path::file_name).or(source.file_stem()),
        false => source.file_name(),
    };
    named.map_or_else(|| "imported".to_owned(), |name| name.to_string_lossy().into_owned())
}
