//! `kindling export`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::bail;
use checkpoint::{RunFolder, export_gguf};
use clap::ValueEnum;
use console::report;
use engine::{Model, WeightStorage};
use formats::{gguf::TensorType, weights::FloatType};

use crate::{model_args::ModelArgs, usage::bail_usage};

/// Exports a model for other programs.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A run folder is already in Hugging Face layout, in f32. A safetensors export leaves out the training
state; with 16 bits it is half the size. The architecture options decide the layout, such as GPT-2,
Llama or Qwen3. Combinations of options that no Hugging Face architecture has can't be exported;
`kindling info` lists the options.

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

    /// Data type of the weights; vectors in a GGUF file are always f32.
    #[arg(long, default_value = "f32")]
    dtype: Dtype,

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dtype {
    /// 32 bits, as trained
    F32,
    /// 16 bits
    F16,
    /// 16 bits, with the range of f32
    Bf16,
    /// 8 bits and a scale for every 32 weights; GGUF only
    #[value(name = "q8_0")]
    Q8_0,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let precision = match args.dtype {
        Dtype::F32 => Some(FloatType::F32),
        Dtype::F16 => Some(FloatType::F16),
        Dtype::Bf16 => Some(FloatType::Bf16),
        Dtype::Q8_0 => None,
    };
    if args.format == Format::Safetensors && precision.is_none() {
        bail_usage!("--dtype q8_0 needs --format gguf; safetensors can be f32, f16 or bf16");
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
        (_, precision) => {
            let ty = tensor_type(precision);
            for difference in export_gguf(&gpt, &tokenizer, &special_tokens, &name, ty, &output)? {
                report(format_args!("note: {difference}"));
            }
        }
    }
    report(format_args!("exported {source} to {}", output.display()));
    Ok(ExitCode::SUCCESS)
}

fn tensor_type(precision: Option<FloatType>) -> TensorType {
    match precision {
        Some(FloatType::F32) => TensorType::F32,
        Some(FloatType::F16) => TensorType::F16,
        Some(FloatType::Bf16) => TensorType::BF16,
        None => TensorType::Q8_0,
    }
}
