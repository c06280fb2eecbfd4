//! `kindling merge`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::bail;
use checkpoint::RunFolder;
use console::report;
use engine::{Model, WeightStorage};
use formats::weights::FloatType;

use crate::{model_args::ModelArgs, usage::bail_usage};

/// Merges a LoRA adapter into its base model.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The result is a model folder of its own, in f32. All commands open an adapter directly too, with its base model
where it was, or any base model with --adapter: merging is for moving the model elsewhere. `kindling export` merges as
it writes.

Examples:
  kindling merge runs/lora -o merged
  kindling merge model.gguf --adapter adapter.gguf"
)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// Folder to create; without it, the adapter's name with `-merged` in the current folder.
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let source = args.model.open()?;
    let is_adapter = RunFolder::open(source.path()).is_ok_and(|folder| folder.is_adapter());
    if !is_adapter && !args.model.has_adapter() {
        bail_usage!("{source} is not an adapter; give a run of `train lora`, or a model with --adapter");
    }
    let output = args.output.unwrap_or_else(|| PathBuf::from(format!("{}-merged", source.name())));
    if output.exists() {
        bail!("{} already exists; choose another path with -o", output.display());
    }
    let model = args.model.load_source(&source, source.load_tokenizer()?, WeightStorage::Owned)?;
    let Model { gpt, tokenizer, special_tokens } = model;
    RunFolder::create_model(&output, &gpt, &tokenizer, &special_tokens, FloatType::F32)?;
    report(format_args!("merged {source} into {}", output.display()));
    Ok(ExitCode::SUCCESS)
}
