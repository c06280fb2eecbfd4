//! `kindling bench`.

mod ranks;
mod report;
mod subject;

use std::{
    fs,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::anyhow;
use burn::prelude::Device;
use clap::ValueEnum;
use engine::{WeightStorage, time_decode, time_prefill};
use kernels::{device_peak_flops, on_pool};
use model::Gpt;
use monitor::warn_of_precision;
use trainer::{PRESETS, Recipe, roofline_sizes};

use self::{
    ranks::Options,
    report::{Report, Speed},
    subject::{Subject, load},
};
use crate::{
    device::DeviceArgs,
    kv_cache_args::KvCacheArgs,
    memory::{self, RankCounts},
    model_args::WeightsArgs,
    usage::{at_least, bail_usage},
};

/// Measures the speed of training, prefill and decode.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Times are medians after a warm-up. Without --only, training is measured for recipes and for runs
with a recipe. A decoding step reads all weights, as they are stored, and KV caches that are half
full on average. FLOPs are counted as in the PaLM paper: six per weight and token in training, plus
full (not causal) attention. Peaks are measured: on a CPU, multiply-adds and memory reads; on a GPU,
the product of two large bf16 matrices.

Examples:
  kindling bench                              the default recipe
  kindling bench nanogpt-gpu --only train --set optimizer.batch_size=8
  kindling bench gpt2 --only train --set run.precision=bf16 --device cuda
  kindling bench runs/tiny --decode 256 --json
  kindling bench smollm2.gguf --kv-cache f16"
)]
pub(crate) struct Args {
    /// Recipe (a preset or a TOML file), or model: a run (name or folder), RUN@last, RUN@STEP, a Hugging Face folder or
    /// a GGUF file.
    #[arg(value_name = "RECIPE or MODEL")]
    subject: Option<String>,

    /// Set a recipe key; repeatable. The sizes of a model can't be set.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,

    /// Measure only this part.
    #[arg(long)]
    only: Option<Part>,

    /// Stop measuring after this time, which the parts share equally; the first iteration of each does not count.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 20,
        allow_negative_numbers = true,
        value_parser = at_least(1_u64)
    )]
    seconds: u64,

    /// Training steps to measure.
    #[arg(long, value_name = "N", default_value_t = 20, allow_negative_numbers = true, value_parser = at_least(1_u64))]
    steps: u64,

    /// Prompt length in tokens [default: 512, or the block size if that is less].
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = at_least(1_usize))]
    prefill: Option<usize>,

    /// Tokens to generate per sample; a sample that fills the block starts again.
    #[arg(long, value_name = "N", default_value_t = 128, allow_negative_numbers = true, value_parser = at_least(1_usize))]
    decode: usize,

    /// Samples decoded together.
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true, value_parser = at_least(1_usize))]
    samples: usize,

    /// Vocabulary size, for a recipe with the char tokenizer.
    #[arg(long, value_name = "N", default_value_t = 65, allow_negative_numbers = true, value_parser = at_least(1_usize))]
    vocab_size: usize,

    /// Measure training over the ranks that mpirun or srun has started, each with a whole batch: first without exchanging
    /// anything, then together.
    #[arg(long, conflicts_with_all = ["only", "prefill", "decode", "samples"])]
    ranks: bool,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    device: DeviceArgs,

    #[command(flatten)]
    weights: WeightsArgs,

    #[command(flatten)]
    kv_cache: KvCacheArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Train,
    Prefill,
    Decode,
}

const WARMUP: usize = 3;
const PREFILLS: usize = 10;
const PROMPT_TOKENS: usize = 512;

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let subject = args.subject.as_deref().unwrap_or(PRESETS[0].0);
    if args.ranks {
        return ranks::run(&Options {
            subject,
            sets: &args.set,
            vocab_size: args.vocab_size,
            weights: &args.weights,
            device: &args.device,
            n_warmup: WARMUP as u64,
            n_steps: args.steps,
            limit: Duration::from_secs(args.seconds),
            is_json: args.json,
        });
    }
    let device = args.device.open()?;
    let Subject { recipe, has_recipe, model, source } =
        Subject::open(subject, &args.set, args.vocab_size, (&args.weights, &args.device), &device)?;
    warn_of_precision(&recipe, &device);
    let model = args.kv_cache.apply(model.with_precision(recipe.run.precision))?;
    let block_size = model.config().block_size;
    let n_prompt = args.prefill.unwrap_or(PROMPT_TOKENS.min(block_size));
    if n_prompt > block_size {
        bail_usage!("--prefill must be between 1 and the block size of {block_size} (got {n_prompt})");
    }
    let parts: Vec<Part> = match args.only {
        Some(part) => vec![part],
        None if has_recipe => vec![Part::Train, Part::Prefill, Part::Decode],
        None => vec![Part::Prefill, Part::Decode],
    };
    let limit = Duration::from_secs(args.seconds).div_f64(parts.len() as f64);
    let on_cpu = args.device.is_cpu();

    if parts.contains(&Part::Decode) && on_cpu {
        memory::check_kv_cache(&model, args.samples as u64, args.decode.min(block_size))?;
    }
    let prefill = parts.contains(&Part::Prefill).then(|| prefill(&model, n_prompt, limit));
    let decode = parts.contains(&Part::Decode).then(|| decode(&model, args.decode, args.samples, limit));
    let train = if parts.contains(&Part::Train) {
        if on_cpu {
            memory::check(&recipe, RankCounts::ONE)?;
        }
        let model = match source {
            None => model,
            Some(source) => {
                drop(model);
                load(&source, WeightStorage::Owned, &device)?.with_precision(recipe.run.precision)
            }
        };
        Some(train(model, &recipe, args.steps, limit, &device)?)
    } else {
        None
    };
    let (peak_memory_bytes, peak_device_memory_bytes) = (peak_memory_bytes(), held_bytes(&device));
    // After the memory is read, because it allocates too.
    let n_threads = rayon::current_num_threads();
    let peak_flops_per_second = match on_cpu {
        true => Some(roofline::peak_flops(n_threads)),
        false => device_peak_flops(&device)
            .map_err(|error| anyhow!("cannot measure the peak of the device: {error:?}"))?,
    };
    let report = Report {
        peak_memory_bytes,
        peak_device_memory_bytes,
        peak_flops_per_second,
        peak_bytes_per_second: (on_cpu && decode.is_some()).then(|| roofline::peak_bandwidth(n_threads)),
        train,
        prefill,
        decode,
    };

    match args.json {
        true => writeln!(io::stdout(), "{}", serde_json::to_string(&report)?)?,
        false => report.print(&mut io::stdout().lock())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Measures optimizer steps.
fn train(
    model: Gpt,
    recipe: &Recipe,
    n_steps: u64,
    limit: Duration,
    device: &Device,
) -> anyhow::Result<Speed> {
    let (sizes, time) = (roofline_sizes(model.config()), model.config().block_size);
    let times = on_pool(|| trainer::time_steps(model, recipe, WARMUP as u64, n_steps, limit, device))?;
    let tokens = recipe.tokens_per_step();
    Ok(Speed::of(times, WARMUP, tokens, sizes.train_flops(usize::try_from(tokens)?, time)))
}

/// Measures prefill: processing a prompt, up to the logits of the next token.
fn prefill(model: &Gpt, n_tokens: usize, limit: Duration) -> Speed {
    let times = time_prefill(model, n_tokens, WARMUP + PREFILLS, limit);
    Speed::of(times, WARMUP, n_tokens as u64, roofline_sizes(model.config()).prefill_flops(n_tokens))
}

/// Measures greedy decoding, token by token.
fn decode(model: &Gpt, n_tokens: usize, n_samples: usize, limit: Duration) -> Speed {
    let times = time_decode(model, WARMUP + n_tokens, n_samples, limit);
    // On average over all generated tokens, half of them are in the cache.
    let n_cached = n_tokens.min(model.config().block_size) / 2;
    let flops = n_samples as f64 * roofline_sizes(model.config()).decode_flops(n_cached as f64);
    let cached_bytes = model.slot().shape().size_bytes(model.slot_type(), n_cached);
    let bytes = model.weight_bytes() + n_samples as u64 * cached_bytes;
    let mut speed = Speed::of(times, WARMUP, n_samples as u64, flops);
    (speed.bytes_read, speed.bytes_per_second) =
        (Some(bytes), Some(bytes as f64 / (1e-3 * speed.milliseconds)));
    speed
}

/// The memory reserved on a device, in bytes, if the device reports it.
fn held_bytes(device: &Device) -> Option<u64> {
    device.memory_pool_usage().map(|usage| usage.bytes_reserved)
}

/// The peak resident memory of the process in bytes; Linux only.
fn peak_memory_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
