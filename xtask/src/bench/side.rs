//! The programs that are compared: each is run once a round, and says how fast it was.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xshell::{Shell, cmd};

use super::case::{Case, Precision, Work};
use crate::common::{is_cpu, name};

/// Whose model it is, and how it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Side {
    /// Ours.
    Kindling,
    /// Ours in f32, beside ours in bf16.
    KindlingF32,
    /// PyTorch, operation by operation.
    Eager,
    /// PyTorch's `torch.compile`.
    Compile,
    /// GPT-2 of Hugging Face transformers, on PyTorch.
    Transformers,
}

/// What one run of a program measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Measurement {
    pub(crate) speed: Speed,
    /// Of the device that it ran on; none where the system does not tell.
    pub(crate) peak_memory_bytes: Option<u64>,
    /// Of a large product in bf16; only on a GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) device_peak_flops_per_second: Option<f64>,
}

/// As `kindling bench --json` and the reference print it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Speed {
    pub(crate) tokens_per_second: f64,
    /// Tokens in one measurement.
    pub(crate) tokens: usize,
    /// The median measurement.
    pub(crate) milliseconds: f64,
    /// The fastest and the slowest one.
    pub(crate) milliseconds_range: [f64; 2],
    pub(crate) measurements: usize,
    /// The first of the warm-up, in which kernels and the model are compiled where they are.
    pub(crate) first_milliseconds: f64,
}

/// What the sides are run with.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) kindling: PathBuf,
    /// Without it, only ours is measured.
    pub(crate) python: Option<PathBuf>,
    /// The script that it runs.
    pub(crate) reference: PathBuf,
    pub(crate) n_threads: usize,
    /// Where both sides compute, as they name it.
    pub(crate) device: String,
}

const REQUIREMENTS: &str = "xtask/reference/requirements.txt";

impl Programs {
    /// In the order of a round.
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

    /// Runs one side on the recipe of `case`.
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
                    .context("kindling does not measure it; what it says about that is above")?
            }
            (_, None) => bail!("there is no Python to run {} with", name(&side)),
            (_, Some(python)) => {
                let cache = recipe.with_file_name("inductor");
                let mode = name(&side);
                cmd!(shell, "{python} {reference} {work} --mode {mode} --recipe {recipe} --device {device}")
                    .args(["--vocab-size", &vocab_size, "--amount", &amount, "--threads", &n_threads])
                    .env("OMP_NUM_THREADS", &n_threads)
                    // Compiled in this process, or the time it takes would be counted as that of others.
                    .env("TORCHINDUCTOR_COMPILE_THREADS", "1")
                    .env("TORCHINDUCTOR_CACHE_DIR", cache)
                    .env("HF_HUB_OFFLINE", "1")
                    .env("PYTHONDONTWRITEBYTECODE", "1")
                    .quiet()
                    .read()
                    .with_context(|| match side {
                        Side::Compile => "torch.compile failed; it needs a C++ compiler, such as g++",
                        _ => "PyTorch does not measure it; what it says about that is above",
                    })?
            }
        };
        parse(&printed, case, device).with_context(|| format!("{} printed `{printed}`", name(&side)))
    }

    /// The versions of what is compared; fails early where something is missing.
    pub(crate) fn versions(&self, shell: &Shell) -> anyhow::Result<serde_json::Map<String, Value>> {
        let kindling = &self.kindling;
        let version = cmd!(shell, "{kindling} --version").quiet().read().with_context(|| {
            format!("{} does not run; leave out --kindling to have it built", kindling.display())
        })?;
        let reference = &self.reference;
        let mut versions = match &self.python {
            None => serde_json::Map::new(),
            Some(python) => {
                let printed = cmd!(shell, "{python} {reference} versions").env("PYTHONDONTWRITEBYTECODE", "1").quiet().read().with_context(|| {
                    let python = python.display();
                    format!(
                        "{python} does not run the reference; \
                         `{python} -m pip install -r {REQUIREMENTS}` installs what it needs: torch, transformers"
                    )
                })?;
                serde_json::from_str(&printed)
                    .with_context(|| format!("the reference printed `{printed}`"))?
            }
        };
        let version = version.strip_prefix("kindling ").unwrap_or(&version);
        versions.insert("kindling".into(), version.into());
        Ok(versions)
    }
}

impl Work {
    /// The option of `kindling bench` that says how much of it.
    fn option(self) -> &'static str {
        match self {
            Self::Train => "--steps",
            Self::Prefill => "--prefill",
            Self::Decode => "--decode",
        }
    }
}

/// Builds the program as `cargo run -p cli` does, and says where it is.
pub(crate) fn build_kindling(shell: &Shell) -> anyhow::Result<PathBuf> {
    build(shell, &[])
}

/// Builds the program for `device`. For a GPU it is optimised all through, because what keeps one busy is so only then.
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
        .context("kindling can't be built; name a binary with --kindling")?;
    executable(&messages).context("cargo built no kindling; name a binary with --kindling")
}

/// The last program that cargo says it has made, in its messages of one JSON object a line.
fn executable(messages: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back()
}

fn parse(printed: &str, case: &Case, device: &str) -> anyhow::Result<Measurement> {
    let mut printed: Value = serde_json::from_str(printed)?;
    let speed: Speed = serde_json::from_value(printed[name(&case.work)].take())?;
    if speed.tokens != case.tokens() {
        bail!("a measurement was of {} tokens instead of {}", speed.tokens, case.tokens());
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
    fn what_a_side_prints_is_read() {
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
    fn bf16_is_measured_beside_our_own_f32() {
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
    fn other_work_and_other_sizes_are_refused() {
        assert!(parse(PRINTED, &Case::new(Work::Decode, Config::S, Precision::F32), "cpu").is_err());
        let error = parse(PRINTED, &Case::new(Work::Train, Config::M, Precision::F32), "cpu").unwrap_err();
        assert_eq!(error.to_string(), "a measurement was of 768 tokens instead of 2048");
    }

    #[test]
    fn the_program_is_found_among_the_messages_of_cargo() {
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
