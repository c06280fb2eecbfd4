//! `kindling quantize`.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use burn::module::Module;
use checkpoint::export_gguf;
use console::report;
use engine::{Comparison, EvaluationText, Model, Source, WeightStorage, quoted};
use families::{
    Family,
    gguf::{FileType, tensors},
};
use formats::gguf::{TensorInfo, TensorType};
use indicatif::HumanBytes;
use journal::summary::plural;
use kernels::on_pool;
use model::GptConfig;
use serde::Serialize;
use tokenizer::Tokenizer;

use crate::{
    evaluation_text::{named_text, validation_text},
    file_type::file_type,
    model_args::{ModelArgs, models},
    prepare::DataDirArgs,
    usage::at_least,
};

/// The text for a model without a record of its training text. It is compiled into the program.
const DEFAULT_TEXT: &str = "shakespeare";

/// No window of the comparison is begun after this time.
const MAX_TIME: Duration = Duration::from_mins(5);

/// Quantises a model to a GGUF file, and measures what it costs.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The types are llama.cpp's. In an _M or _S file, and in the head, some matrices have more bits than
the others. A matrix whose rows are not a multiple of 256 or 32 has another type; --dry-run shows
which.

After writing, the file is compared with the original on a text, without overlap between windows
of the block size (at most 1024 tokens). KL divergence is that of the next-token distributions:
0 means no difference. Small models lose more than large ones.

Examples:
  kindling quantize --type q4_K_M --dry-run             types and sizes for the newest run
  kindling quantize runs/tiny --type q8_0 -o tiny.gguf
  kindling quantize smollm2.gguf --type q4_0 --data my.txt -o smaller.gguf"
)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// Type of the file.
    #[arg(long = "type", value_name = "TYPE", value_parser = file_type(), ignore_case = true)]
    ty: FileType,

    /// Output path; without it, MODEL-TYPE.gguf in the current folder.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Print the types and sizes of the tensors, and write nothing.
    #[arg(long)]
    dry_run: bool,

    /// Text for the comparison: a file, a folder of text files, a known corpus, or `-` for standard input. Without it,
    /// the validation part of the run's text, or Shakespeare for an imported model.
    #[arg(long, value_name = "NAME or PATH")]
    data: Option<String>,

    #[command(flatten)]
    data_dir: DataDirArgs,

    /// Tokens to compare on; 0 skips the comparison.
    #[arg(long, value_name = "N", default_value_t = 20_480, allow_negative_numbers = true, value_parser = at_least(0_usize))]
    tokens: usize,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// The object that `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(rename = "type")]
    ty: &'static str,
    /// Null with `--dry-run`.
    path: Option<String>,
    /// The size of all tensors in this type and in f32.
    tensor_bytes: u64,
    f32_bytes: u64,
    bits_per_weight: f64,
    tensors: Vec<Group>,
    comparison: Option<Comparison>,
}

/// The tensors of the same kind and type.
#[derive(Debug, Serialize)]
struct Group {
    /// With `*` for the layer.
    name: String,
    #[serde(rename = "type")]
    ty: String,
    n_tensors: usize,
    bytes: u64,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let source = args.model.open()?;
    let mut result = Report::new(&config(&source)?, args.ty)?;
    if !args.dry_run {
        let output = args.output.clone();
        let output = output.unwrap_or_else(|| PathBuf::from(format!("{}-{}.gguf", source.name(), args.ty)));
        result.comparison = quantize(&args, &source, &output)?;
        result.path = Some(output.display().to_string());
    }
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&result)?)?;
    } else {
        result.write(&mut out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the file and compares it with the original.
fn quantize(args: &Args, source: &Source, output: &Path) -> anyhow::Result<Option<Comparison>> {
    if output.exists() {
        bail!("{} already exists; choose another path with -o", output.display());
    }
    if let Source::Gguf(file) = source
        && let Some(ty) = file.weight_types().keys().find(|ty| ty.block_len() > 1)
    {
        report(format_args!("note: {source} is already quantised ({ty}); quantising it again loses more"));
    }
    let (tokenizer, special_tokens) = source.load_tokenizer()?;
    // The text is read first, so that a missing text is noticed before the work.
    let text = (args.tokens > 0).then(|| text(args, source, &tokenizer)).transpose()?;
    let loaded = args.model.load_source(source, (tokenizer, special_tokens), WeightStorage::Owned)?;
    let Model { gpt, tokenizer, special_tokens } = loaded;
    let notes = on_pool(|| export_gguf(&gpt, &tokenizer, &special_tokens, &source.name(), args.ty, output))?;
    for note in notes {
        report(format_args!("note: {note}"));
    }
    report(format_args!("quantised {source} to {}", output.display()));
    let Some(text) = text else { return Ok(None) };
    let quantised = models().open(output)?.load(&gpt.devices()[0])?;
    let n_tokens = args.tokens.min(text.ids.len().saturating_sub(1));
    report(format_args!("comparing it with the original on {}", plural(n_tokens, "token")));
    let comparison = Comparison::of(&quantised.gpt, &gpt, &text.ids, args.tokens, MAX_TIME);
    Ok(Some(comparison.context("the text has fewer than two tokens; give a longer one with --data")?))
}

fn text(args: &Args, source: &Source, tokenizer: &Tokenizer) -> anyhow::Result<EvaluationText> {
    let data_dir = &args.data_dir.data_dir;
    let validation = match args.data {
        Some(_) => None,
        None => validation_text(source, tokenizer, data_dir)?,
    };
    match validation {
        Some(text) => Ok(text),
        None => {
            let data = args.data.as_deref().unwrap_or(DEFAULT_TEXT);
            named_text(data, source, tokenizer, data_dir).with_context(|| {
                format!(
                    "cannot compare on {}; name another text with --data, or skip the comparison with --tokens 0",
                    quoted(data)
                )
            })
        }
    }
}

fn config(source: &Source) -> anyhow::Result<GptConfig> {
    Ok(match source {
        Source::Folder(model) => model.folder.config()?,
        Source::Gguf(file) => file.config().clone(),
    })
}

impl Report {
    fn new(config: &GptConfig, ty: FileType) -> anyhow::Result<Self> {
        let tensors = tensors(config, Family::of(config)?, ty);
        let size = |ty: TensorType, tensor: &TensorInfo| ty.size(&tensor.dims).unwrap_or_default();
        let sum = |bytes: &dyn Fn(&TensorInfo) -> usize| tensors.iter().map(bytes).sum::<usize>() as u64;
        let n_values = sum(&|tensor| size(tensor.ty, tensor).0);
        let tensor_bytes = sum(&|tensor| size(tensor.ty, tensor).1);
        let f32_bytes = sum(&|tensor| size(TensorType::F32, tensor).1);
        let mut groups: BTreeMap<(String, TensorType), (usize, u64)> = BTreeMap::new();
        for tensor in &tensors {
            let (n_tensors, bytes) = groups.entry((kind(&tensor.name), tensor.ty)).or_default();
            *n_tensors += 1;
            *bytes += size(tensor.ty, tensor).1 as u64;
        }
        let group = |((name, ty), (n_tensors, bytes)): ((String, TensorType), (usize, u64))| Group {
            name,
            ty: ty.to_string(),
            n_tensors,
            bytes,
        };
        Ok(Self {
            ty: ty.name(),
            path: None,
            tensor_bytes,
            f32_bytes,
            bits_per_weight: 8.0 * tensor_bytes as f64 / n_values as f64,
            tensors: groups.into_iter().map(group).collect(),
            comparison: None,
        })
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        if self.path.is_none() {
            let width = self.tensors.iter().map(|group| group.name.len()).max().unwrap_or_default();
            for Group { name, ty, n_tensors, bytes } in &self.tensors {
                let bytes = HumanBytes(*bytes).to_string();
                writeln!(out, "{name:<width$}  {ty:<5}{bytes:>13}, {}", plural(n_tensors, "tensor"))?;
            }
            writeln!(out)?;
        }
        let [size, f32_size] = [self.tensor_bytes, self.f32_bytes].map(HumanBytes);
        let bits = self.bits_per_weight;
        writeln!(out, "size           {size}, {bits:.2} bits per weight (f32: {f32_size})")?;
        if let Some(comparison) = self.comparison {
            let Comparison { perplexity, reference_perplexity, tokens, window, .. } = comparison;
            let Comparison { kl_divergence, kl_divergence_99, same_first, .. } = comparison;
            let change = 100.0 * (perplexity / reference_perplexity - 1.0);
            writeln!(
                out,
                "perplexity     {perplexity:.3}, original {reference_perplexity:.3} ({change:+.2} %)"
            )?;
            writeln!(
                out,
                "KL divergence  {kl_divergence:.5} nats per token, 99th percentile {kl_divergence_99:.4}"
            )?;
            writeln!(out, "same first     {:.1} % of tokens", 100.0 * same_first)?;
            writeln!(out, "over           {} in windows of {window}", plural(tokens, "token"))?;
        }
        Ok(())
    }
}

/// The name with `*` for the layer.
fn kind(name: &str) -> String {
    match name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
        Some((_, rest)) => format!("blk.*.{rest}"),
        None => name.to_owned(),
    }
}
