//! The checks on the other machine: tests, benchmarks and training runs.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use indicatif::{BinaryBytes, HumanCount};
use serde::Serialize;
use serde_json::Value;

use super::libtest::{Counts, RanOn};
use super::manifest::{KINDLING, TestProgram};
use super::program::{self, ProgramResult};
use crate::common::{is_cpu, read};

/// The result of one program.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Check {
    pub(crate) name: String,
    /// The device that it computed on.
    pub(crate) device: String,
    pub(crate) seconds: f64,
    /// A short result for the table.
    pub(crate) result: String,
    /// `None` if it passed.
    pub(crate) failure: Option<String>,
    /// File with its complete output.
    pub(crate) log: PathBuf,
    /// For tests only, if they printed a summary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tests: Option<Counts>,
    /// For benchmarks only: the JSON of `kindling bench --json` or of `xtask bench`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) speeds: Option<Value>,
}

/// Runs the programs of a pack.
#[derive(Debug)]
pub(crate) struct PackRunner {
    pub(crate) pack: PathBuf,
    pub(crate) device: String,
    pub(crate) timeout: Duration,
}

impl PackRunner {
    /// The folder for the output of programs.
    pub(crate) fn logs(&self) -> PathBuf {
        self.pack.join("logs")
    }

    /// Runs the tests of one target.
    pub(crate) fn test(&self, test: &TestProgram) -> anyhow::Result<Check> {
        let (ended, log) = self.run(&test.name(), &mut self.test_command(test))?;
        Ok(test_check(test.name(), &self.device, ended, log))
    }

    /// A test program with the environment that cargo would set.
    fn test_command(&self, test: &TestProgram) -> Command {
        let home = self.pack.join("crates").join(&test.package);
        let mut command = Command::new(self.pack.join(&test.path));
        // Tests that pass print their device.
        command.arg("--show-output").current_dir(&home);
        command.env("KINDLING_TEST_DEVICE", &self.device);
        command.env("CARGO_MANIFEST_DIR", &home).env("CARGO_BIN_EXE_kindling", self.pack.join(KINDLING));
        command.env("CARGO_WORKSPACE_DIR", &self.pack); // For expect-test.
        command
    }

    /// Measures the speed of a recipe's model. GPT-2 may run out of device memory without failing the check.
    pub(crate) fn bench(&self, recipe: &str, precision: &str) -> anyhow::Result<Check> {
        let name = format!("bench {recipe} {precision}");
        let mut command = self.kindling(&["bench", recipe, "--json"]);
        command.args(["--set", &format!("run.precision={precision}")]);
        command.args(["--set", "optimizer.grad_accumulation=1"]); // Keeps a step to seconds.
        let (ended, log) = self.run(&name, &mut command)?;

        let lines = ended.output.lines().rev();
        let speeds =
            lines.filter(|line| line.starts_with('{')).find_map(|line| serde_json::from_str(line).ok());
        let (result, failure) = match (ended.failure, &speeds) {
            (Some(_), _) if recipe == "gpt2" && is_out_of_memory(&ended.output) => {
                ("out of device memory".to_owned(), None)
            }
            (Some(failure), _) => (String::new(), Some(failure)),
            (None, None) => (String::new(), Some("it printed no speeds".to_owned())),
            (None, Some(speeds)) => (speeds_text(speeds), None),
        };
        let (device, seconds) = (self.device_unless(failure.as_deref()), ended.seconds);
        Ok(Check { name, device, seconds, result, failure, log, tests: None, speeds })
    }

    /// Runs a whole training, from text to the last checkpoint.
    pub(crate) fn train(&self, recipe: &str) -> anyhow::Result<Check> {
        let name = format!("train {recipe}");
        let folder = tempfile::tempdir()?;
        let run = folder.path().join("run");
        let mut command = self.kindling(&["train", recipe, "--no-tui", "--log", "none"]);
        command.arg("--run").arg(&run).current_dir(folder.path());
        let (ProgramResult { failure, seconds, .. }, log) = self.run(&name, &mut command)?;

        let (result, failure) = match failure {
            Some(failure) => (String::new(), Some(failure)),
            None => losses_text(&read(&run.join("metrics.jsonl"))?)?,
        };
        let device = self.device_unless(failure.as_deref());
        Ok(Check { name, device, seconds, result, failure, log, tests: None, speeds: None })
    }

    fn kindling(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.pack.join(KINDLING));
        command.args(args).args(["--device", self.kindling_device(), "--quiet"]);
        command
    }

    /// The device for kindling, which always uses fused operations on the CPU.
    pub(crate) fn kindling_device(&self) -> &str {
        if is_cpu(&self.device) { "cpu" } else { &self.device }
    }

    /// The device that kindling computed on: known if it succeeded.
    pub(crate) fn device_unless(&self, failure: Option<&str>) -> String {
        failure.map_or(self.kindling_device(), |_| "unknown").to_owned()
    }

    fn run(&self, name: &str, command: &mut Command) -> anyhow::Result<(ProgramResult, PathBuf)> {
        self.run_for(self.timeout, name, command)
    }

    pub(crate) fn run_for(
        &self,
        timeout: Duration,
        name: &str,
        command: &mut Command,
    ) -> anyhow::Result<(ProgramResult, PathBuf)> {
        let log = self.logs().join(format!("{}.log", name.replace([' ', '/'], "-")));
        Ok((program::run(command, &log, timeout)?, log))
    }
}

/// The result of tests for `device`.
fn test_check(name: String, device: &str, ended: ProgramResult, log: PathBuf) -> Check {
    let tests = Counts::read(&ended.output);
    let ran_on = RanOn::read(&ended.output, device);
    let failure = match (ended.failure, ran_on, tests) {
        (Some(failure), _, Some(_)) => Some(failure),
        (Some(failure), _, None) => Some(format!("{failure}, before the tests finished")),
        (None, _, None) => Some("it printed no test summary".to_owned()),
        (None, RanOn::Fallback, _) => Some(format!("not run on {device}")),
        (None, _, Some(_)) => None,
    };
    Check {
        name,
        device: ran_on.text(device),
        seconds: ended.seconds,
        result: tests.map_or_else(String::new, Counts::text),
        failure,
        log,
        tests,
        speeds: None,
    }
}

/// Whether the output has an out-of-memory error of the driver, CubeCL or PyTorch.
pub(crate) fn is_out_of_memory(output: &str) -> bool {
    let signs = [
        "OUT_OF_MEMORY",
        "OutOfMemoryError",
        "out-of-memory",
        "out of device memory",
        "can't allocate buffer of size",
    ];
    signs.iter().any(|sign| output.contains(sign))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a speed, rounded")]
fn speeds_text(speeds: &Value) -> String {
    let speed = |part: &str| {
        let tokens = speeds[part]["tokens_per_second"].as_f64()?;
        Some(format!("{part} {}", HumanCount(tokens.round() as u64)))
    };
    let parts: Vec<String> = ["train", "prefill", "decode"].into_iter().filter_map(speed).collect();
    let mut text = format!("{} tokens/s", parts.join(", "));
    let rates = [&speeds["train"]["flops_per_second"], &speeds["peak_flops_per_second"]].map(Value::as_f64);
    if let [Some(rate), Some(peak)] = rates {
        text += &format!("; training at {:.0} % of peak", 1e2 * rate / peak);
    }
    if let Some(bytes) = speeds["peak_device_memory_bytes"].as_u64() {
        text += &format!("; {}", BinaryBytes(bytes));
    }
    text
}

/// A summary of the losses in `metrics.jsonl`, and a failure if they did not fall.
fn losses_text(metrics: &str) -> anyhow::Result<(String, Option<String>)> {
    let lines = metrics.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let of = |split: &'static str| lines.iter().filter(move |line| line["split"] == split);
    let first = of("train").next().context("the metrics have no training step")?;
    let last = of("valid").next_back().context("the metrics have no evaluation")?;
    // A loss that is not finite is null in JSON.
    let [begin, end] = [first, last].map(|line| line["loss"].as_f64().unwrap_or(f64::NAN));
    let best = of("valid").filter_map(|line| line["loss"].as_f64()).fold(f64::INFINITY, f64::min);
    let result = format!("loss {begin:.4}, then {end:.4} after {} steps, {best:.4} at best", last["step"]);
    let failure = (end.is_nan() || end >= begin).then(|| "the loss did not fall".to_owned());
    Ok((result, failure))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn speeds_are_listed_by_kind_of_work() {
        let speeds = r#"{"train": {"tokens_per_second": 123456.7}, "decode": {"tokens_per_second": 99.4}}"#;
        assert_eq!(speeds_text(&serde_json::from_str(speeds).unwrap()), "train 123,457, decode 99 tokens/s");
        let speeds = r#"{"train": {"tokens_per_second": 1000.0, "flops_per_second": 3e13},
            "peak_flops_per_second": 6e13, "peak_device_memory_bytes": 3221225472}"#;
        assert_eq!(
            speeds_text(&serde_json::from_str(speeds).unwrap()),
            "train 1,000 tokens/s; training at 50 % of peak; 3.00 GiB"
        );
    }

    #[test]
    fn running_out_of_memory_is_distinguished_from_other_failures() {
        for sign in [
            "CUDA_ERROR_OUT_OF_MEMORY",
            "torch.OutOfMemoryError: CUDA",
            "out of device memory allocating 8 bytes",
        ] {
            assert!(is_out_of_memory(sign), "{sign}");
        }
        assert!(!is_out_of_memory("CUDA_ERROR_ILLEGAL_ADDRESS"));
    }

    #[test]
    fn a_loss_has_to_fall() {
        let metrics = |end: &str| {
            format!(
                "{{\"split\":\"train\",\"step\":1,\"loss\":4.25}}\n{{\"split\":\"valid\",\"step\":40,\"loss\":{end}}}\n"
            )
        };
        let (result, failure) = losses_text(&metrics("3.5")).unwrap();
        assert_eq!(
            (result.as_str(), failure),
            ("loss 4.2500, then 3.5000 after 40 steps, 3.5000 at best", None)
        );
        for end in ["4.25", "4.5", "null"] {
            assert_eq!(losses_text(&metrics(end)).unwrap().1.unwrap(), "the loss did not fall", "{end}");
        }
        assert!(losses_text("").is_err());
    }

    #[test]
    fn tests_get_the_environment_of_cargo() {
        let pack = Path::new("pack");
        let runner =
            PackRunner { pack: pack.to_owned(), device: "cuda".to_owned(), timeout: Duration::from_secs(1) };
        let test = TestProgram {
            package: "model".to_owned(),
            target: "gpt".to_owned(),
            kind: "test".to_owned(),
            path: "tests/model-test-gpt".into(),
        };
        let command = runner.test_command(&test);
        let value = |name: &str| command.get_envs().find(|(key, _)| *key == name).unwrap().1.unwrap();
        assert_eq!(command.get_program(), pack.join("tests/model-test-gpt"));
        assert_eq!(value("KINDLING_TEST_DEVICE"), "cuda");
        assert_eq!(value("CARGO_MANIFEST_DIR"), pack.join("crates/model"));
        assert_eq!(value("CARGO_BIN_EXE_kindling"), pack.join("kindling"));
        assert_eq!(command.get_current_dir(), Some(pack.join("crates/model").as_path()));
    }

    #[test]
    fn tests_have_to_pass_on_the_chosen_device() {
        let check = |output: &str, failure: Option<&str>| {
            let ended = ProgramResult {
                failure: failure.map(str::to_owned),
                seconds: 1.0,
                output: output.to_owned(),
            };
            test_check("model tests/gpt".to_owned(), "cuda", ended, PathBuf::new())
        };
        let summary = "test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        let passed = check(&format!("; the tests run on cuda:0\n{summary}"), None);
        assert_eq!(
            (passed.failure, passed.device.as_str(), passed.result.as_str()),
            (None, "cuda", "4 passed")
        );

        let elsewhere = check(&format!("; the tests run on the CPU\n{summary}"), None);
        assert_eq!(elsewhere.failure.unwrap(), "not run on cuda");
        assert_eq!(elsewhere.device, "cpu (no cuda)");

        let failed = check(&summary.replace("0 failed", "1 failed"), Some("exit status: 101"));
        assert_eq!(failed.result, "4 passed, 1 failed");
        assert_eq!(failed.failure.unwrap(), "exit status: 101");
        let crashed = check("test it ... ", Some("signal: 11 (SIGSEGV)"));
        assert_eq!(crashed.failure.unwrap(), "signal: 11 (SIGSEGV), before the tests finished");
        assert_eq!(check("", None).failure.unwrap(), "it printed no test summary");
    }
}
