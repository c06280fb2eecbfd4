//! `kindling export`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::bail;
use checkpoint::{Precision, RunFolder, TensorType, export_gguf};
use clap::ValueEnum;

use crate::{
    console::report,
    model_folder::{ModelArgs, Opened},
};

/// Writes a model in a form that other programs open.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A run's folder is in Hugging Face layout as it is, in f32; exporting it as safetensors
leaves out what training goes on from, and can halve it. The layout follows from the model's parts:
GPT-2's, Llama's or Qwen3's. Parts that none of them has together can't be exported; `kindling info`
says which.

Examples:
  kindling export --format gguf                            the newest run, for llama.cpp and Ollama
  kindling export runs/mine --format gguf --dtype q8_0 -o mine.gguf
  kindling export runs/mine --format safetensors --dtype bf16"
)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// What to write.
    #[arg(long)]
    format: Format,

    /// What weights are stored as; vectors are f32 in a GGUF file, whatever this says.
    #[arg(long, default_value = "f32")]
    dtype: Dtype,

    /// Where to write it; without it, beside the run's name in this folder.
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A folder in Hugging Face's layout
    Safetensors,
    /// One file for llama.cpp and what is built on it
    Gguf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dtype {
    /// 32 bits, as trained
    F32,
    /// 16 bits
    F16,
    /// 16 bits, with the range of 32
    Bf16,
    /// 8 bits and a scale for every 32 weights; GGUF only
    #[value(name = "q8_0")]
    Q8_0,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let precision = match args.dtype {
        Dtype::F32 => Some(Precision::F32),
        Dtype::F16 => Some(Precision::F16),
        Dtype::Bf16 => Some(Precision::Bf16),
        Dtype::Q8_0 => None,
    };
    if args.format == Format::Safetensors && precision.is_none() {
        bail!("--dtype q8_0 is for --format gguf; a safetensors file can be f32, f16 or bf16");
    }
    let Opened { source, model, tokenizer } = args.model.open()?;
    let name = source.name();
    let output = args.output.unwrap_or_else(|| match args.format {
        Format::Safetensors => PathBuf::from(format!("{name}-safetensors")),
        Format::Gguf => PathBuf::from(format!("{name}.gguf")),
    });
    if output.exists() {
        bail!("{} exists already; name another by -o", output.display());
    }
    match (args.format, precision) {
        (Format::Safetensors, Some(precision)) => {
            RunFolder::export(&output, &model, &tokenizer, &source.marks(), precision)?;
        }
        (_, precision) => {
            let ty = tensor_type(precision);
            for difference in export_gguf(&model, &tokenizer, &source.marks(), &name, ty, &output)? {
                report(format_args!("note: {difference}"));
            }
        }
    }
    report(format_args!("wrote {} to {}", source.path().display(), output.display()));
    Ok(ExitCode::SUCCESS)
}

fn tensor_type(precision: Option<Precision>) -> TensorType {
    match precision {
        Some(Precision::F32) => TensorType::F32,
        Some(Precision::F16) => TensorType::F16,
        Some(Precision::Bf16) => TensorType::BF16,
        None => TensorType::Q8_0,
    }
}
