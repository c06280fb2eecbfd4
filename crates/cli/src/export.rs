//! `kindling export`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use checkpoint::{RunFolder, export_gguf, export_gguf_adapter};
use clap::ValueEnum;
use console::report;
use engine::{Model, WeightStorage};
use families::gguf::FileType;
use formats::weights::FloatType;

use crate::{file_type::file_type, model_args::ModelArgs, modelfile::modelfile, usage::bail_usage};

/// Exports a model for other programs.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A run folder is already in Hugging Face layout, in f32. A safetensors export leaves out the training
state; with 16 bits it is half the size. The architecture options decide the layout, such as GPT-2,
Llama or Qwen3. Combinations of options that no Hugging Face architecture has can't be exported;
`kindling info` lists the options. `kindling quantize` also measures what a smaller type costs.
An adapter is exported merged into its base model, except as gguf-adapter.

Examples:
  kindling export --format gguf                            the newest run, for llama.cpp and Ollama
  kindling export runs/mine --format gguf --dtype q8_0 -o mine.gguf
  kindling export runs/mine --format safetensors --dtype bf16
  kindling export runs/lora --format gguf-adapter          the adapter alone, for llama.cpp"
)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// File format.
    #[arg(long)]
    format: Format,

    /// Data type of the weights; vectors in a GGUF file are always f32. A type below 16 bits needs GGUF.
    #[arg(long, default_value = "f32", value_parser = file_type(), ignore_case = true)]
    dtype: FileType,

    /// Output path; without it, the model's name in the current folder.
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,

    /// Also write a Modelfile beside the GGUF file, for `ollama create`.
    #[arg(long)]
    modelfile: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A folder in Hugging Face layout
    Safetensors,
    /// One file, for llama.cpp and programs built on it
    Gguf,
    /// One file with a LoRA adapter, without its base model
    GgufAdapter,
}

impl Format {
    /// The output path for a model of this name.
    fn default_path(self, name: &str) -> PathBuf {
        PathBuf::from(match self {
            Self::Safetensors => format!("{name}-safetensors"),
            Self::Gguf => format!("{name}.gguf"),
            Self::GgufAdapter => format!("{name}-adapter.gguf"),
        })
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let precision = match args.dtype {
        FileType::F32 => Some(FloatType::F32),
        FileType::F16 => Some(FloatType::F16),
        FileType::BF16 => Some(FloatType::Bf16),
        _ => None,
    };
    if args.format == Format::Safetensors && precision.is_none() {
        bail_usage!("--dtype {} needs --format gguf; safetensors can be f32, f16 or bf16", args.dtype);
    }
    if args.modelfile && args.format != Format::Gguf {
        bail_usage!("--modelfile needs --format gguf");
    }
    if args.format == Format::GgufAdapter {
        return export_adapter(&args, precision);
    }
    let (source, model) = args.model.load_with(WeightStorage::Owned)?;
    let name = source.name();
    let output = args.output.unwrap_or_else(|| args.format.default_path(&name));
    let ollama = args.modelfile.then(|| output.with_file_name("Modelfile"));
    for path in [Some(&output), ollama.as_ref()].into_iter().flatten() {
        check_is_free(path)?;
    }
    let Model { gpt, tokenizer, special_tokens } = &model;
    match (args.format, precision) {
        (Format::Safetensors, Some(precision)) => {
            RunFolder::export(&output, gpt, tokenizer, special_tokens, precision)?;
        }
        _ => {
            for difference in export_gguf(gpt, tokenizer, special_tokens, &name, args.dtype, &output)? {
                report(format_args!("note: {difference}"));
            }
        }
    }
    report(format_args!("exported {source} to {}", output.display()));
    if let Some(path) = ollama {
        let file = output.file_name().unwrap_or_default().to_string_lossy();
        fs::write(&path, modelfile(&file, &model))
            .with_context(|| format!("cannot write {}", path.display()))?;
        report(format_args!("wrote {}; next: ollama create NAME -f {0}", path.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the low-rank updates of an adapter alone.
fn export_adapter(args: &Args, precision: Option<FloatType>) -> anyhow::Result<ExitCode> {
    if precision.is_none() {
        bail_usage!("--dtype {} needs --format gguf; an adapter can be f32, f16 or bf16", args.dtype);
    }
    let (source, model) = args.model.load_with(WeightStorage::Mapped)?;
    if !model.gpt.has_lora() {
        bail_usage!("{source} is not an adapter; give a run of `train lora`, or a model with --adapter");
    }
    let name = source.name();
    let output = args.output.clone().unwrap_or_else(|| args.format.default_path(&name));
    check_is_free(&output)?;
    export_gguf_adapter(&model.gpt, &name, args.dtype, &output)?;
    report(format_args!("exported the adapter of {source} to {}", output.display()));
    Ok(ExitCode::SUCCESS)
}

fn check_is_free(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        bail!("{} already exists; choose another path with -o", path.display());
    }
    Ok(())
}
