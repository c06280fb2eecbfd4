//! The second half: runs a pack where there is no Rust and no network.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;
use std::{fs, iter};

use anyhow::{Context, bail};
use xshell::Shell;

use super::check::{Check, Ground};
use super::manifest::Manifest;
use super::report::Report;
use crate::bench::case::Config;
use crate::bench::machine::{Machine, gpus};
use crate::common::{create, is_cpu, say, write_json};

/// Run what is in a pack, one program after the other, and print one table. Nothing is built.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What `device-check pack` made
    folder: PathBuf,

    /// What the tests take as `KINDLING_TEST_DEVICE` and the program as --device
    #[arg(long, default_value = "cpu")]
    device: String,

    /// Only this: a crate, `train`, `bench` or `compare`; may be given more than once
    #[arg(long, value_name = "CRATE")]
    only: Vec<String>,

    /// Recipes to measure; without it, nanogpt-gpu and gpt2, or tiny on a cpu
    #[arg(long = "bench", value_name = "RECIPE", value_delimiter = ',')]
    recipes: Vec<String>,

    /// A Python that has torch, to compare the speed of training with, as `cargo xtask bench train` does; it may take four times
    /// the --timeout
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,

    /// Recipes to train to their end, beside debug; nanogpt-gpu is to get below a loss of 1.47
    #[arg(long = "train", value_name = "RECIPE", value_delimiter = ',')]
    trained: Vec<String>,

    /// What a program may take before it is ended
    #[arg(long, value_name = "SECONDS", default_value = "900")]
    timeout: NonZeroU64,

    /// Also write all of it to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What is measured on a GPU: nanoGPT's model for one, and GPT-2 where it fits.
const ON_GPU: [&str; 2] = ["nanogpt-gpu", "gpt2"];

/// Those take minutes on a CPU.
const ON_CPU: [&str; 1] = ["tiny"];

/// What is trained where nothing else is asked for.
const TRAINED: &str = "debug";

/// What `--only` has beside the crates.
const BENCH: &str = "bench";
const TRAIN: &str = "train";
const COMPARE: &str = "compare";

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let pack =
        fs::canonicalize(&args.folder).with_context(|| format!("find the pack {}", args.folder.display()))?;
    let manifest = Manifest::read(&pack)?;
    manifest.check_device(&args.device)?;
    check_only(&manifest, &args.only)?;
    if args.python.is_some() && !is_cpu(&args.device) && !args.device.starts_with("cuda") {
        bail!("PyTorch has no device {:?} to compare with; leave out --python", args.device);
    }
    let timeout = Duration::from_secs(args.timeout.get());
    let ground = Ground { pack, device: args.device.clone(), timeout };
    let logs = ground.logs();
    create(&logs)?;

    let checks = check_all(&ground, &manifest, args)?;
    let Manifest { commit, features, profile, .. } = manifest;
    let (device, gpus) = (args.device.clone(), gpus(&Shell::new()?));
    let report = Report { commit, features, profile, device, gpus, machine: Machine::this(), checks };
    if let Some(path) = &args.json {
        write_json(path, &report)?;
    }
    let failed = report.failed();
    for check in &failed {
        let output = fs::read(&check.log).with_context(|| format!("read {}", check.log.display()))?;
        say(&format!("\n{}", check.tail(&String::from_utf8_lossy(&output))));
    }
    say(&format!("\n{}", report.text()));
    if !failed.is_empty() {
        bail!("not all passed on {}; what each program printed is in {}", report.device, logs.display());
    }
    Ok(())
}

/// An error if a name is none of those there are.
fn check_only(manifest: &Manifest, only: &[String]) -> anyhow::Result<()> {
    let names = [manifest.packages(), vec![BENCH, TRAIN, COMPARE]].concat();
    match only.iter().find(|name| !names.contains(&name.as_str())) {
        Some(name) => bail!("--only {name}: this pack has {}", names.join(", ")),
        None => Ok(()),
    }
}

fn check_all(ground: &Ground, manifest: &Manifest, args: &Args) -> anyhow::Result<Vec<Check>> {
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let mut checks = Vec::new();
    let mut add = |check: Check| {
        say(&check.line());
        checks.push(check);
    };
    for test in manifest.tests.iter().filter(|test| wanted(&test.package)) {
        add(ground.test(test)?);
    }
    if wanted(TRAIN) {
        let asked = args.trained.iter().map(String::as_str);
        for recipe in iter::once(TRAINED).chain(asked) {
            add(ground.train(recipe)?);
        }
    }
    if wanted(BENCH) {
        let precisions: &[&str] = if is_cpu(&args.device) { &["f32"] } else { &["f32", "bf16"] };
        for recipe in recipes(args) {
            for precision in precisions {
                add(ground.bench(recipe, precision)?);
            }
        }
    }
    if let Some(python) = args.python.as_ref().filter(|_| wanted(COMPARE)) {
        let configs = if is_cpu(&args.device) { &[Config::S] } else { Config::usual(&args.device) };
        for &config in configs {
            add(ground.compare(config, python)?);
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
    fn only_what_is_in_the_pack_can_be_asked_for() {
        let only = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            check_only(&manifest(), &names)
        };
        only(&[]).unwrap();
        only(&["cli", "bench", "train"]).unwrap();
        let error = only(&["kernels", "trainer"]).unwrap_err().to_string();
        assert_eq!(error, "--only trainer: this pack has kernels, model, cli, bench, train, compare");
    }
}
