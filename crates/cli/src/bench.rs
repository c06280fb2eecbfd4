//! `kindling bench`.

use std::{
    fs,
    io::{self, Write},
    iter,
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::anyhow;
use clap::ValueEnum;
use engine::{ModelFolder, WeightStorage, time_decode, time_prefill};
use journal::summary::plural;
use kernels::{device_peak_flops, on_pool};
use model::Gpt;
use monitor::warn_of_precision;
use serde::Serialize;
use trainer::{PRESETS, Recipe, RecipeSource, preset, roofline_sizes, vocab_size};

use crate::{
    device::DeviceArgs,
    memory,
    model_args::models,
    recipe::{parse, read_recipe},
    usage::{at_least, bail_usage},
};

/// Measures the speed of training, prefill and decode.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Times are medians after a warm-up. FLOPs are counted as in the PaLM paper: six per weight and
token in training, plus full (not causal) attention. Peaks are measured: on a CPU, multiply-adds
and memory reads; on a GPU, the product of two large bf16 matrices.

Examples:
  kindling bench                              the default recipe
  kindling bench nanogpt-gpu --only train --set optimizer.batch_size=8
  kindling bench gpt2 --only train --set run.precision=bf16 --device cuda
  kindling bench runs/tiny --decode 256 --json"
)]
pub(crate) struct Args {
    /// Recipe (a preset or a TOML file), or model: a folder, RUN@last or RUN@STEP.
    #[arg(value_name = "RECIPE or MODEL")]
    subject: Option<String>,

    /// Set a recipe key; repeatable. The sizes of a model can't be set.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,

    /// Measure only this part.
    #[arg(long)]
    only: Option<Part>,

    /// Training steps to measure.
    #[arg(long, value_name = "N", default_value_t = 20, allow_negative_numbers = true, value_parser = at_least(1_u64))]
    steps: u64,

    /// Prompt length in tokens; without it, half the block size.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = at_least(1_usize))]
    prefill: Option<usize>,

    /// Tokens to generate per sample.
    #[arg(long, value_name = "N", default_value_t = 64, allow_negative_numbers = true, value_parser = at_least(1_usize))]
    decode: usize,

    /// Samples decoded together.
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true, value_parser = at_least(1_usize))]
    samples: usize,

    /// Vocabulary size, for a recipe with the char tokenizer.
    #[arg(long, value_name = "N", default_value_t = 65, allow_negative_numbers = true, value_parser = at_least(1_usize))]
    vocab_size: usize,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Train,
    Prefill,
    Decode,
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    train: Option<Speed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefill: Option<Speed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decode: Option<Speed>,
    /// Null if the system does not report it.
    peak_memory_bytes: Option<u64>,
    /// Memory reserved on a GPU. The pool returns little of it before the process ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_device_memory_bytes: Option<u64>,
    /// Peak FLOP/s: f32 multiply-adds on a CPU, the product of large bf16 matrices on a GPU with bf16.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_flops_per_second: Option<f64>,
    /// Peak memory bandwidth of a CPU in bytes/s; only when decode is measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_bytes_per_second: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Speed {
    tokens_per_second: f64,
    /// Tokens per measurement: a training step, a prompt, or one token of each sample.
    tokens: u64,
    /// Median.
    milliseconds: f64,
    /// Fastest and slowest measurement.
    milliseconds_range: [f64; 2],
    measurements: usize,
    /// The first warm-up iteration, which compiles kernels on a GPU.
    first_milliseconds: f64,
    /// Counted as in [`roofline::Sizes`].
    flops_per_second: f64,
    /// Bytes of weights read, once per token of all samples; only for decode.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_second: Option<f64>,
}

const WARMUP: usize = 3;
const PREFILLS: usize = 10;

/// The first iteration is reported if it takes this much longer than the median.
const SLOW_START_MS: f64 = 500.0;

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let device = args.device.open()?;
    let (recipe, model, origin) = subject(&args, &device)?;
    warn_of_precision(&recipe, &device);
    let model = model.with_precision(recipe.run.precision);
    let block_size = model.config().block_size;
    if let Some(n_tokens) = args.prefill.filter(|n_tokens| !(1..=block_size).contains(n_tokens)) {
        bail_usage!("--prefill must be between 1 and the block size of {block_size} (got {n_tokens})");
    }
    let wanted = |part| args.only.is_none_or(|only| only == part);
    let on_cpu = args.device.is_cpu();

    if wanted(Part::Decode) && on_cpu {
        memory::check_kv_cache(model.config(), args.samples as u64, args.decode)?;
    }
    let prefill = wanted(Part::Prefill).then(|| prefill(&model, args.prefill));
    let decode = wanted(Part::Decode).then(|| decode(&model, args.decode, args.samples));
    let train = match (wanted(Part::Train), origin) {
        (false, _) => None,
        (true, None) => Some(train(model, &recipe, args.steps, &device)?),
        (true, Some(origin)) => {
            // Training needs weights of its own: mapped ones are read-only.
            drop(model);
            let model =
                origin.load_model(WeightStorage::Owned, &device)?.with_precision(recipe.run.precision);
            Some(train(model, &recipe, args.steps, &device)?)
        }
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

    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for (name, speed) in [("train", &report.train), ("prefill", &report.prefill), ("decode", &report.decode)]
    {
        if let Some(speed) = speed {
            let [low, high] = speed.milliseconds_range;
            writeln!(
                out,
                "{name:<8} {:>9.0} tokens/s   median {:.2} ms ({low:.2} to {high:.2}) for {}, {} times",
                speed.tokens_per_second,
                speed.milliseconds,
                plural(speed.tokens, "token"),
                speed.measurements
            )?;
            for line in report.rates(speed).into_iter().chain(speed.slow_start()) {
                writeln!(out, "{:8} {line}", "")?;
            }
        }
    }
    if let Some(peak) = report.peak_memory_bytes {
        writeln!(out, "peak memory {} MiB", peak >> 20)?;
    }
    if let Some(peak) = report.peak_device_memory_bytes {
        writeln!(out, "peak device memory {} MiB", peak >> 20)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Report {
    /// Lines with FLOP/s and the bandwidth of weights, each as a share of the device's peak.
    fn rates(&self, speed: &Speed) -> Vec<String> {
        let line = |rate: f64, peak: Option<f64>, unit: &str| {
            let part = peak
                .map(|peak| format!(", {:.0} % of the peak of {:.0} here", 1e2 * rate / peak, 1e-9 * peak));
            format!("{:>9.1} {unit}{}", 1e-9 * rate, part.unwrap_or_default())
        };
        let computing = line(speed.flops_per_second, self.peak_flops_per_second, "GFLOP/s");
        let reading = speed.bytes_per_second.map(|rate| line(rate, self.peak_bytes_per_second, "GB/s"));
        iter::once(computing).chain(reading).collect()
    }
}

/// The recipe and the model to measure: a new model from a recipe, or a folder's model, loaded for inference.
fn subject(
    args: &Args,
    device: &burn::prelude::Device,
) -> anyhow::Result<(Recipe, Gpt, Option<ModelFolder>)> {
    let name = args.subject.as_deref().unwrap_or(PRESETS[0].0);
    let path = Path::new(name);
    let models = models();
    if preset(name).is_some() || !models.may_be_model(path) {
        let mut recipe = read_recipe(name, &args.set)?;
        recipe.model.vocab_size = vocab_size(recipe.data.tokenizer, args.vocab_size);
        let model = recipe.model.init(recipe.run.seed, device)?;
        return Ok((recipe, model, None));
    }
    let origin = ModelFolder::find(&models, path)?;
    let folder = &origin.folder;
    let sizes = |set: &&String| set.trim_start().starts_with("model.");
    if let Some(set) = args.set.iter().find(sizes) {
        bail_usage!("--set {set} has no effect: the sizes come from {origin}");
    }
    let model = origin.load_model(WeightStorage::Mapped, device)?;
    let mut recipe = match RecipeSource::saved(&folder.recipe_path()) {
        Ok(source) => parse(&source, &args.set)?,
        Err(_) => {
            let one_batch = "optimizer.grad_accumulation=1".to_owned();
            read_recipe("gpt2", &[[one_batch].as_slice(), &args.set].concat())?
        }
    };
    recipe.model = model.config().clone();
    Ok((recipe, model, Some(origin)))
}

/// Measures optimizer steps.
fn train(model: Gpt, recipe: &Recipe, n_steps: u64, device: &burn::prelude::Device) -> anyhow::Result<Speed> {
    let (sizes, time) = (roofline_sizes(model.config()), model.config().block_size);
    let times = on_pool(|| trainer::time_steps(model, recipe, WARMUP as u64, n_steps.max(1), device))?;
    let tokens = recipe.tokens_per_step();
    Ok(Speed::of(times, tokens, sizes.train_flops(usize::try_from(tokens)?, time)))
}

/// Measures prefill: processing a prompt, up to the logits of the next token.
fn prefill(model: &Gpt, n_tokens: Option<usize>) -> Speed {
    let n_tokens = n_tokens.unwrap_or(model.config().block_size.div_ceil(2));
    let times = time_prefill(model, n_tokens, WARMUP + PREFILLS);
    Speed::of(times, n_tokens as u64, roofline_sizes(model.config()).prefill_flops(n_tokens))
}

/// Measures greedy decoding, token by token.
fn decode(model: &Gpt, n_tokens: usize, n_samples: usize) -> Speed {
    let times = time_decode(model, WARMUP + n_tokens, n_samples);
    let sizes = roofline_sizes(model.config());
    // On average over all generated tokens, half of them are in the cache.
    let flops = n_samples as f64 * sizes.decode_flops(n_tokens as f64 / 2.0);
    let mut speed = Speed::of(times, n_samples as u64, flops);
    speed.bytes_per_second = Some(sizes.weight_bytes() / (1e-3 * speed.milliseconds));
    speed
}

impl Speed {
    /// The speed by the measurements after the warm-up. `tokens` and `flops` are per measurement.
    fn of(mut times: Vec<Duration>, tokens: u64, flops: f64) -> Self {
        let first = times[0];
        times.drain(..WARMUP);
        times.sort_unstable();
        let milliseconds = |time: Duration| 1e3 * time.as_secs_f64();
        let median = times[times.len() / 2];
        Self {
            tokens_per_second: tokens as f64 / median.as_secs_f64(),
            tokens,
            milliseconds: milliseconds(median),
            milliseconds_range: [milliseconds(times[0]), milliseconds(times[times.len() - 1])],
            measurements: times.len(),
            first_milliseconds: milliseconds(first),
            flops_per_second: flops / median.as_secs_f64(),
            bytes_per_second: None,
        }
    }

    /// A line with the time of the first iteration, if it is much longer than the median.
    fn slow_start(&self) -> Option<String> {
        (self.first_milliseconds > self.milliseconds + SLOW_START_MS).then(|| {
            format!(
                "{:>9.1} s for the first iteration, which compiles and tunes kernels",
                1e-3 * self.first_milliseconds
            )
        })
    }
}

/// The memory reserved on a device, in bytes, if the device reports it.
fn held_bytes(device: &burn::prelude::Device) -> Option<u64> {
    device.memory_pool_usage().map(|usage| usage.bytes_reserved)
}

/// The peak resident memory of the process in bytes; Linux only.
fn peak_memory_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
