//! `device-check run`: runs a pack on a machine without Rust or a network.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;
use std::{fs, iter};

use anyhow::{Context, bail};
use xshell::Shell;

use super::check::{Check, PackRunner};
use super::manifest::Manifest;
use super::report::Report;
use crate::bench::case::Config;
use crate::bench::machine::{Machine, gpus};
use crate::common::{create, is_cpu, say, write_json};

/// Run the programs of a pack one after another and print a table. Builds nothing.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Pack made by `device-check pack`
    folder: PathBuf,

    /// Device: `KINDLING_TEST_DEVICE` of the tests and --device of kindling
    #[arg(long, default_value = "cpu")]
    device: String,

    /// Run only a crate, `train`, `bench` or `compare`; may be repeated
    #[arg(long, value_name = "CRATE")]
    only: Vec<String>,

    /// Recipes to measure [default: nanogpt-gpu and gpt2, or tiny on a CPU]
    #[arg(long = "bench", value_name = "RECIPE", value_delimiter = ',')]
    recipes: Vec<String>,

    /// Python interpreter with torch, to compare training speed as in `cargo xtask bench train`; a comparison may take
    /// four times the --timeout
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,

    /// Recipes to train to the end, in addition to debug; nanogpt-gpu should reach a loss below 1.47
    #[arg(long = "train", value_name = "RECIPE", value_delimiter = ',')]
    trained: Vec<String>,

    /// Time limit of a program
    #[arg(long, value_name = "SECONDS", default_value = "900")]
    timeout: NonZeroU64,

    /// Also write all results to this JSON file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Recipes to measure on a GPU. GPT-2 may not fit into its memory.
const ON_GPU: [&str; 2] = ["nanogpt-gpu", "gpt2"];

/// The recipe to measure on a CPU, where the others take minutes.
const ON_CPU: [&str; 1] = ["tiny"];

/// The recipe that is always trained.
const TRAINED: &str = "debug";

/// Values of `--only` in addition to the crates.
const BENCH: &str = "bench";
const TRAIN: &str = "train";
const COMPARE: &str = "compare";

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let pack = fs::canonicalize(&args.folder)
        .with_context(|| format!("cannot open the pack {}", args.folder.display()))?;
    let manifest = Manifest::read(&pack)?;
    manifest.check_device(&args.device)?;
    check_only(&manifest, &args.only)?;
    if args.python.is_some() && !is_cpu(&args.device) && !args.device.starts_with("cuda") {
        bail!("PyTorch does not support the device {:?}; leave out --python", args.device);
    }
    let timeout = Duration::from_secs(args.timeout.get());
    let runner = PackRunner { pack, device: args.device.clone(), timeout };
    let logs = runner.logs();
    create(&logs)?;

    let checks = check_all(&runner, &manifest, args)?;
    let Manifest { commit, features, profile, .. } = manifest;
    let (device, gpus) = (args.device.clone(), gpus(&Shell::new()?));
    let report = Report { commit, features, profile, device, gpus, machine: Machine::this(), checks };
    if let Some(path) = &args.json {
        write_json(path, &report)?;
    }
    let failed = report.failed();
    for check in &failed {
        let output = fs::read(&check.log).with_context(|| format!("cannot read {}", check.log.display()))?;
        say(&format!("\n{}", check.tail(&String::from_utf8_lossy(&output))));
    }
    say(&format!("\n{}", report.text()));
    if !failed.is_empty() {
        bail!("some checks failed on {}; the output of each program is in {}", report.device, logs.display());
    }
    Ok(())
}

/// Fails if a name of `--only` is unknown.
fn check_only(manifest: &Manifest, only: &[String]) -> anyhow::Result<()> {
    let names = [manifest.packages(), vec![BENCH, TRAIN, COMPARE]].concat();
    match only.iter().find(|name| !names.contains(&name.as_str())) {
        Some(name) => bail!("unknown value `{name}` of --only; this pack has {}", names.join(", ")),
        None => Ok(()),
    }
}

fn check_all(runner: &PackRunner, manifest: &Manifest, args: &Args) -> anyhow::Result<Vec<Check>> {
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let mut checks = Vec::new();
    let mut add = |check: Check| {
        say(&check.line());
        checks.push(check);
    };
    for test in manifest.tests.iter().filter(|test| wanted(&test.package)) {
        add(runner.test(test)?);
    }
    if wanted(TRAIN) {
        let more = args.trained.iter().map(String::as_str);
        for recipe in iter::once(TRAINED).chain(more) {
            add(runner.train(recipe)?);
        }
    }
    if wanted(BENCH) {
        let precisions: &[&str] = if is_cpu(&args.device) { &["f32"] } else { &["f32", "bf16"] };
        for recipe in recipes(args) {
            for precision in precisions {
                add(runner.bench(recipe, precision)?);
            }
        }
    }
    if let Some(python) = args.python.as_ref().filter(|_| wanted(COMPARE)) {
        let configs = if is_cpu(&args.device) { &[Config::S] } else { Config::usual(&args.device) };
        for &config in configs {
            add(runner.compare(config, python)?);
        }
    }
    Ok(checks)
}

fn recipes(args: &Args) -> Vec<&str> {
    if !args.recipes.is_empty() {
        return args.recipes.iter().map(String::as_str).collect();
    }
    if is_cpu(&args.device) { ON_CPU.to_vec() } else { ON_GPU.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::tests::manifest;
    use super::*;

    #[test]
    fn only_names_in_the_pack_can_be_selected() {
        let only = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            check_only(&manifest(), &names)
        };
        only(&[]).unwrap();
        only(&["cli", "bench", "train"]).unwrap();
        let error = only(&["kernels", "trainer"]).unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown value `trainer` of --only; this pack has kernels, model, cli, bench, train, compare"
        );
    }
}
