//! `kindling export`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::bail;
use checkpoint::{RunFolder, export_gguf};
use clap::ValueEnum;
use console::report;
use engine::{Model, WeightStorage};
use families::gguf::FileType;
use formats::weights::FloatType;

use crate::{file_type::file_type, model_args::ModelArgs, usage::bail_usage};

/// Exports a model for other programs.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A run folder is already in Hugging Face layout, in f32. A safetensors export leaves out the training
state; with 16 bits it is half the size. The architecture options decide the layout, such as GPT-2,
Llama or Qwen3. Combinations of options that no Hugging Face architecture has can't be exported;
`kindling info` lists the options. `kindling quantize` also measures what a smaller type costs.

Examples:
  kindling export --format gguf                            the newest run, for llama.cpp and Ollama
  kindling export runs/mine --format gguf --dtype q8_0 -o mine.gguf
  kindling export runs/mine --format safetensors --dtype bf16"
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A folder in Hugging Face layout
    Safetensors,
    /// One file, for llama.cpp and programs built on it
    Gguf,
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
    let (source, Model { gpt, tokenizer, special_tokens }) = args.model.load_with(WeightStorage::Owned)?;
    let name = source.name();
    let output = args.output.unwrap_or_else(|| match args.format {
        Format::Safetensors => PathBuf::from(format!("{name}-safetensors")),
        Format::Gguf => PathBuf::from(format!("{name}.gguf")),
    });
    if output.exists() {
        bail!("{} already exists; choose another path with -o", output.display());
    }
    match (args.format, precision) {
        (Format::Safetensors, Some(precision)) => {
            RunFolder::export(&output, &gpt, &tokenizer, &special_tokens, precision)?;
        }
        _ => {
            let (gpt, dtype) = (&gpt, args.dtype);
            for difference in export_gguf(gpt, &tokenizer, &special_tokens, &name, dtype, &output)? {
                report(format_args!("note: {difference}"));
            }
        }
    }
    report(format_args!("exported {source} to {}", output.display()));
    Ok(ExitCode::SUCCESS)
}
