//! `cargo xtask bench`: Kindling's speed and memory, compared with PyTorch on the same machine.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::bail;
use serde_json::{Map, Value};
use xshell::Shell;

pub(crate) mod case;
pub(crate) mod load;
pub(crate) mod machine;
mod report;
pub(crate) mod side;
pub(crate) mod summary;

use crate::common::{commit, is_cpu, name, reference, root, say, write, write_json};
use case::{Case, Config, Precision, Work};
use load::Ticks;
use machine::Machine;
use report::Report;
use side::{Measurement, Programs, Side};
use summary::{Round, Summary};

/// Measure Kindling's speed and peak memory, and PyTorch's with --python.
///
/// The programs run alternately, each in its own process, with the same model sizes and threads. Use an otherwise idle
/// machine; after every round the CPU share of other processes is printed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench train --config S
  cargo xtask bench train --config M --config G --python .venv/bin/python --threads 2
  cargo xtask bench decode --config G --python .venv/bin/python --rounds 5
  cargo xtask bench train --device cuda --precision bf16 --python .venv/bin/python

To install PyTorch: python -m venv .venv && .venv/bin/pip install -r xtask/reference/requirements.txt")]
pub(crate) struct Args {
    /// Kind of work
    work: Work,

    /// Model; may be repeated [default: all models for the device]
    #[arg(long = "config", value_name = "CONFIG", ignore_case = true)]
    configs: Vec<Config>,

    /// Python interpreter with torch and transformers, to compare with PyTorch
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,

    /// Runs of each program
    #[arg(long, value_name = "N", default_value = "3")]
    rounds: NonZeroUsize,

    /// Threads per program [default: the number of cores]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// kindling binary to measure [default: build one]
    #[arg(long, value_name = "PATH")]
    kindling: Option<PathBuf>,

    /// JSON file for the results of a single config [default: WORK-CONFIG.json in --folder]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Folder for recipes and results [default: target/bench]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,

    /// Folder of the PyTorch scripts [default: xtask/reference]
    #[arg(long, value_name = "FOLDER")]
    reference: Option<PathBuf>,

    /// Precision of matrix products in training
    #[arg(long, value_name = "KIND", default_value = "f32")]
    precision: Precision,

    /// Device of both programs: cpu, or a GPU such as cuda or cuda:1, whose Cargo feature kindling is built with
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,

    /// Batch size in training, in place of the config's
    #[arg(long, value_name = "N")]
    batch_size: Option<NonZeroUsize>,

    /// Peak speed of the GPU in bf16, in place of the measured speed of a large matrix product
    #[arg(long, value_name = "TFLOPS")]
    peak: Option<f64>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let configs = if args.configs.is_empty() { Config::usual(&args.device) } else { &args.configs };
    if args.output.is_some() && configs.len() > 1 {
        bail!("--output takes the results of one config; choose it with --config, or leave out --output");
    }
    if args.precision == Precision::Bf16 && args.work != Work::Train {
        bail!("--precision bf16 applies to training only; leave it out for {}", name(&args.work));
    }
    if args.batch_size.is_some() && args.work != Work::Train {
        bail!("--batch-size applies to training only; leave it out for {}", name(&args.work));
    }
    if args.peak.is_some() && is_cpu(&args.device) {
        bail!("--peak applies to GPUs only; choose one with --device, or leave out --peak");
    }
    let shell = Shell::new()?;
    let kindling = match &args.kindling {
        Some(path) => path.clone(),
        None => side::build_kindling_for(&shell, &args.device)?,
    };
    let n_threads = args.threads.map_or_else(thread::available_parallelism, Ok)?.get();
    let device = args.device.clone();
    let reference = args.reference.clone().map_or_else(reference, Ok)?.join("bench.py");
    let programs = Programs { kindling, python: args.python.clone(), reference, n_threads, device };
    let versions = programs.versions(&shell)?;

    for &config in configs {
        let mut case = Case::new(args.work, config, args.precision);
        case.batch_size = args.batch_size.map_or(case.batch_size, NonZeroUsize::get);
        let folder =
            args.folder.clone().map_or_else(|| Ok(root()?.join("target").join("bench")), anyhow::Ok)?;
        let file = case.file_name(&args.device);
        let output = args.output.clone().unwrap_or_else(|| folder.join(format!("{file}.json")));
        let recipe = folder.join(format!("{file}.toml"));
        write(&recipe, &case.recipe()?)?;
        let report = bench(&shell, &programs, &versions, case, &recipe, args)?;
        write_json(&output, &report)?;
        say(&report.text());
        say(&format!("all figures: {}", output.display()));
    }
    Ok(())
}

/// Measures `case` with the recipe file `recipe`.
fn bench(
    shell: &Shell,
    programs: &Programs,
    versions: &Map<String, Value>,
    case: Case,
    recipe: &Path,
    args: &Args,
) -> anyhow::Result<Report> {
    let started_unix_seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();

    let mut rounds = Vec::new();
    let n_rounds = args.rounds.get();
    let given_peak = args.peak.map(|tera| 1e12 * tera);
    for number in 1..=n_rounds {
        let round = measure_round(shell, programs, &case, recipe, given_peak)?;
        say(&round.text(number, n_rounds));
        rounds.push(round);
    }
    Ok(Report {
        n_threads: programs.n_threads,
        started_unix_seconds,
        commit: commit(shell),
        versions: versions.clone(),
        machine: Machine::this(),
        device: programs.device.clone(),
        gpus: machine::gpus(shell),
        flops: case.flops(),
        weight_bytes: (case.work == Work::Decode).then(|| case.sizes().weight_bytes()),
        summary: Summary::of(&rounds, &case),
        rounds,
        case,
    })
}

fn measure_round(
    shell: &Shell,
    programs: &Programs,
    case: &Case,
    recipe: &Path,
    given_peak: Option<f64>,
) -> anyhow::Result<Round> {
    let on_cpu = is_cpu(&programs.device);
    let before = Ticks::read();
    let processor_peak = on_cpu.then(|| roofline::peak_flops(programs.n_threads));
    let peak_bytes_per_second =
        (on_cpu && case.work == Work::Decode).then(|| roofline::peak_bandwidth(programs.n_threads));
    let sides: BTreeMap<_, _> = programs
        .sides(case)
        .into_iter()
        .map(|side| Ok((side, programs.measure(shell, side, case, recipe)?)))
        .collect::<anyhow::Result<_>>()?;
    let others_share = before.zip(Ticks::read()).map(|(before, after)| after.others_since(before));
    let peak_flops_per_second = processor_peak.or(given_peak).or_else(|| device_peak(&sides));
    Ok(Round { peak_flops_per_second, peak_bytes_per_second, sides, others_share })
}

/// The highest peak that the programs measured: with its own peak, a program with slow matrix products would look better.
fn device_peak(sides: &BTreeMap<Side, Measurement>) -> Option<f64> {
    sides.values().filter_map(|side| side.device_peak_flops_per_second).max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_of_a_device_is_the_higher_measurement() {
        let mut sides = summary::tests::round(&[(Side::Kindling, 1.0, 1), (Side::Eager, 1.0, 1)], 0.0).sides;
        assert_eq!(device_peak(&sides), None);
        for (side, peak) in [(Side::Kindling, 7e14), (Side::Eager, 8e14)] {
            sides.get_mut(&side).unwrap().device_peak_flops_per_second = Some(peak);
        }
        assert_eq!(device_peak(&sides), Some(8e14));
    }
}
