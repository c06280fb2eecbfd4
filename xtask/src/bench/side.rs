//! The compared programs. Each runs once per round and prints its speed.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xshell::{Shell, cmd};

use super::case::{Case, Precision, Work};
use crate::common::{is_cpu, name};

/// A program, and how it runs the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Side {
    Kindling,
    /// Kindling in f32, measured together with Kindling in bf16.
    KindlingF32,
    /// PyTorch in eager mode.
    Eager,
    /// PyTorch with `torch.compile`.
    Compile,
    /// GPT-2 of Hugging Face transformers, with PyTorch.
    Transformers,
}

/// The measurements of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Measurement {
    pub(crate) speed: Speed,
    /// On the device of the run; `None` if the system does not report it.
    pub(crate) peak_memory_bytes: Option<u64>,
    /// Speed of a large matrix product in bf16, on GPUs only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) device_peak_flops_per_second: Option<f64>,
}

/// The JSON that `kindling bench --json` and the PyTorch script print.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Speed {
    pub(crate) tokens_per_second: f64,
    /// Tokens in one measurement.
    pub(crate) tokens: usize,
    /// The median.
    pub(crate) milliseconds: f64,
    /// Minimum and maximum.
    pub(crate) milliseconds_range: [f64; 2],
    pub(crate) measurements: usize,
    /// The first warm-up, which includes compiling kernels or the model.
    pub(crate) first_milliseconds: f64,
}

/// The programs and their common settings.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) kindling: PathBuf,
    /// If `None`, only Kindling is measured.
    pub(crate) python: Option<PathBuf>,
    /// The script for `python`.
    pub(crate) reference: PathBuf,
    pub(crate) n_threads: usize,
    /// Device name for both programs.
    pub(crate) device: String,
}

const REQUIREMENTS: &str = "xtask/reference/requirements.txt";

impl Programs {
    /// The programs in the order in which a round runs them.
    pub(crate) fn sides(&self, case: &Case) -> Vec<Side> {
        let ours: &[Side] = match case.precision {
            Precision::F32 => &[Side::Kindling],
            Precision::Bf16 => &[Side::Kindling, Side::KindlingF32],
        };
        let others: &[Side] = match (&self.python, case.work) {
            (None, _) => &[],
            (Some(_), Work::Train) => &[Side::Eager, Side::Compile],
            (Some(_), Work::Prefill | Work::Decode) => &[Side::Transformers],
        };
        [ours, others].concat()
    }

    /// Runs one program with the recipe of `case`.
    pub(crate) fn measure(
        &self,
        shell: &Shell,
        side: Side,
        case: &Case,
        recipe: &Path,
    ) -> anyhow::Result<Measurement> {
        let work = name(&case.work);
        let amount = case.amount.to_string();
        let vocab_size = case.vocab_size.to_string();
        let n_threads = self.n_threads.to_string();
        let Self { device, reference, .. } = self;
        let printed = match (side, &self.python) {
            (Side::Kindling | Side::KindlingF32, _) => {
                let kindling = &self.kindling;
                let option = case.work.option();
                let in_f32: &[&str] =
                    if side == Side::KindlingF32 { &["--set", "run.precision=f32"] } else { &[] };
                cmd!(shell, "{kindling} bench {recipe} --only {work} {option} {amount} {in_f32...}")
                    .args(["--vocab-size", &vocab_size, "--device", device, "--json"])
                    .env("RAYON_NUM_THREADS", &n_threads)
                    .quiet()
                    .read()
                    .context("`kindling bench` failed; its messages are above")?
            }
            (_, None) => bail!("{} needs --python", name(&side)),
            (_, Some(python)) => {
                let cache = recipe.with_file_name("inductor");
                let mode = name(&side);
                cmd!(shell, "{python} {reference} {work} --mode {mode} --recipe {recipe} --device {device}")
                    .args(["--vocab-size", &vocab_size, "--amount", &amount, "--threads", &n_threads])
                    .env("OMP_NUM_THREADS", &n_threads)
                    // Compile in this process, so that the time does not count as that of other processes.
                    .env("TORCHINDUCTOR_COMPILE_THREADS", "1")
                    .env("TORCHINDUCTOR_CACHE_DIR", cache)
                    .env("HF_HUB_OFFLINE", "1")
                    .env("PYTHONDONTWRITEBYTECODE", "1")
                    .quiet()
                    .read()
                    .with_context(|| match side {
                        Side::Compile => "torch.compile failed; it needs a C++ compiler, such as g++",
                        _ => "the PyTorch script failed; its messages are above",
                    })?
            }
        };
        parse(&printed, case, device)
            .with_context(|| format!("invalid output of {}: `{printed}`", name(&side)))
    }

    /// The versions of the compared programs. Fails early if one is missing.
    pub(crate) fn versions(&self, shell: &Shell) -> anyhow::Result<serde_json::Map<String, Value>> {
        let kindling = &self.kindling;
        let version = cmd!(shell, "{kindling} --version").quiet().read().with_context(|| {
            format!("cannot run {}; leave out --kindling to build it", kindling.display())
        })?;
        let reference = &self.reference;
        let mut versions = match &self.python {
            None => serde_json::Map::new(),
            Some(python) => {
                let printed = cmd!(shell, "{python} {reference} versions")
                    .env("PYTHONDONTWRITEBYTECODE", "1")
                    .quiet()
                    .read()
                    .with_context(|| {
                        let python = python.display();
                        format!(
                            "{python} cannot run the PyTorch script; \
                         `{python} -m pip install -r {REQUIREMENTS}` installs torch and transformers"
                        )
                    })?;
                serde_json::from_str(&printed)
                    .with_context(|| format!("invalid output of the PyTorch script: `{printed}`"))?
            }
        };
        let version = version.strip_prefix("kindling ").unwrap_or(&version);
        versions.insert("kindling".into(), version.into());
        Ok(versions)
    }
}

impl Work {
    /// The option of `kindling bench` for the amount of work.
    fn option(self) -> &'static str {
        match self {
            Self::Train => "--steps",
            Self::Prefill => "--prefill",
            Self::Decode => "--decode",
        }
    }
}

/// Builds kindling as `cargo run -p cli` does, and returns its path.
pub(crate) fn build_kindling(shell: &Shell) -> anyhow::Result<PathBuf> {
    build(shell, &[])
}

/// Builds kindling for `device`. For a GPU this is a release build: launching kernels fast enough needs optimised
/// dependencies.
pub(crate) fn build_kindling_for(shell: &Shell, device: &str) -> anyhow::Result<PathBuf> {
    match device.split(':').next() {
        Some(backend) if !is_cpu(device) => build(shell, &["--release", "--features", backend]),
        _ => build_kindling(shell),
    }
}

fn build(shell: &Shell, options: &[&str]) -> anyhow::Result<PathBuf> {
    let format = "--message-format=json-render-diagnostics";
    let messages = cmd!(shell, "cargo build --package cli {options...} {format}")
        .read()
        .context("cannot build kindling; pass a binary with --kindling")?;
    executable(&messages).context("cargo built no kindling; pass a binary with --kindling")
}

/// The last executable in the messages of cargo, which are one JSON object per line.
fn executable(messages: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back()
}

fn parse(printed: &str, case: &Case, device: &str) -> anyhow::Result<Measurement> {
    let mut printed: Value = serde_json::from_str(printed)?;
    let speed: Speed = serde_json::from_value(printed[name(&case.work)].take())?;
    if speed.tokens != case.tokens() {
        bail!("a measurement has {} tokens instead of {}", speed.tokens, case.tokens());
    }
    let is_cpu = is_cpu(device);
    let peak_memory = if is_cpu { "peak_memory_bytes" } else { "peak_device_memory_bytes" };
    Ok(Measurement {
        speed,
        peak_memory_bytes: printed[peak_memory].as_u64(),
        device_peak_flops_per_second: printed["peak_flops_per_second"].as_f64().filter(|_| !is_cpu),
    })
}

#[cfg(test)]
mod tests {
    use super::super::case::Config;
    use super::*;

    const PRINTED: &str = r#"{"train": {"tokens_per_second": 8000.0, "tokens": 768, "milliseconds": 96.0,
        "milliseconds_range": [95.0, 99.5], "measurements": 20, "first_milliseconds": 150.0},
        "peak_memory_bytes": 1024, "peak_device_memory_bytes": 4096, "peak_flops_per_second": 1e12}"#;

    #[test]
    fn printed_measurements_are_parsed() {
        let case = Case::new(Work::Train, Config::S, Precision::F32);
        let measurement = parse(PRINTED, &case, "cpu").unwrap();
        assert_eq!(measurement.speed.milliseconds, 96.0);
        assert_eq!(measurement.speed.first_milliseconds, 150.0);
        assert_eq!(measurement.peak_memory_bytes, Some(1024));
        assert_eq!(measurement.device_peak_flops_per_second, None);
        let measurement = parse(PRINTED, &case, "cuda").unwrap();
        assert_eq!(measurement.peak_memory_bytes, Some(4096));
        assert_eq!(measurement.device_peak_flops_per_second, Some(1e12));
    }

    #[test]
    fn bf16_is_measured_together_with_f32() {
        let programs = |python: Option<&str>| Programs {
            kindling: "k".into(),
            python: python.map(Into::into),
            reference: PathBuf::new(),
            n_threads: 1,
            device: "cpu".to_owned(),
        };
        let sides = |python, precision| programs(python).sides(&Case::new(Work::Train, Config::S, precision));
        assert_eq!(sides(None, Precision::F32), [Side::Kindling]);
        assert_eq!(sides(None, Precision::Bf16), [Side::Kindling, Side::KindlingF32]);
        let all = [Side::Kindling, Side::KindlingF32, Side::Eager, Side::Compile];
        assert_eq!(sides(Some("python"), Precision::Bf16), all);
    }

    #[test]
    fn other_work_and_other_sizes_are_rejected() {
        assert!(parse(PRINTED, &Case::new(Work::Decode, Config::S, Precision::F32), "cpu").is_err());
        let error = parse(PRINTED, &Case::new(Work::Train, Config::M, Precision::F32), "cpu").unwrap_err();
        assert_eq!(error.to_string(), "a measurement has 768 tokens instead of 2048");
    }

    #[test]
    fn the_executable_is_found_in_the_messages_of_cargo() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","executable":"/t/debug/kindling"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executable(messages), Some(PathBuf::from("/t/debug/kindling")));
        assert_eq!(executable(r#"{"reason":"build-finished"}"#), None);
    }
}
