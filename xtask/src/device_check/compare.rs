//! Training speed compared with PyTorch, if the other machine has it.

use std::fmt::Write as _;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use indicatif::HumanCount;
use serde_json::Value;

use super::check::{Check, PackRunner, is_out_of_memory};
use super::manifest::{KINDLING, REFERENCE, XTASK};
use super::program::ProgramResult;
use crate::bench::case::{Case, Config, Precision, Work};
use crate::common::{is_cpu, name, read};

/// The largest number of programs in a comparison, for its time limit.
const N_SIDES: u32 = 4;

impl PackRunner {
    /// Compares Kindling with PyTorch by `xtask bench`, halving the batch until both have enough memory.
    pub(crate) fn compare(&self, config: Config, python: &Path) -> anyhow::Result<Check> {
        let precision = if is_cpu(&self.device) { Precision::F32 } else { Precision::Bf16 };
        let case = Case::new(Work::Train, config, precision);
        let halves = iter::successors(Some(case.batch_size), |&n| (n > 1).then_some(n / 2));
        let mut last = None;
        for batch_size in halves {
            let title = format!("compare {config:?} {} batch {batch_size}", name(&precision));
            let figures = self.logs().join(format!("{}.json", title.replace(' ', "-")));
            let mut command = self.bench_command(&case, batch_size, python, &figures);
            let (ended, log) = self.run_for(N_SIDES * self.timeout, &title, &mut command)?;
            let has_memory = !(ended.failure.is_some() && is_out_of_memory(&ended.output));
            last = Some(self.compared(title, ended, log, &figures)?);
            if has_memory {
                break;
            }
        }
        last.context("the batch size is 0")
    }

    fn bench_command(&self, case: &Case, batch_size: usize, python: &Path, figures: &Path) -> Command {
        let mut command = Command::new(self.pack.join(XTASK));
        command.args(["bench", "train", "--config", &format!("{:?}", case.config)]);
        command.args(["--precision", &name(&case.precision), "--batch-size", &batch_size.to_string()]);
        command.args(["--device", self.kindling_device()]).arg("--python").arg(python);
        command.arg("--kindling").arg(self.pack.join(KINDLING));
        command.arg("--reference").arg(self.pack.join(REFERENCE));
        command.arg("--folder").arg(self.logs()).arg("--output").arg(figures);
        command
    }

    fn compared(
        &self,
        name: String,
        ended: ProgramResult,
        log: PathBuf,
        figures: &Path,
    ) -> anyhow::Result<Check> {
        let ProgramResult { failure, seconds, output: _ } = ended;
        let device = self.device_unless(failure.as_deref());
        let (result, speeds) = match failure {
            Some(_) => (String::new(), None),
            None => {
                let report: Value = serde_json::from_str(&read(figures)?)?;
                (summary_text(&report["summary"]), Some(report))
            }
        };
        Ok(Check { name, device, seconds, result, failure, log, tests: None, speeds })
    }
}

/// The speed of each program, its fraction of the peak, and the ratios.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a speed, rounded")]
fn summary_text(summary: &Value) -> String {
    let mut text = String::new();
    for (side, of) in summary["sides"].as_object().into_iter().flatten() {
        let tokens = of["tokens_per_second"].as_f64().unwrap_or_default();
        let _ = write!(text, "{side} {} tokens/s", HumanCount(tokens.round() as u64));
        if let Some(fraction) = of["fraction_of_peak_flops"].as_f64() {
            let _ = write!(text, " ({:.0} % of peak)", 1e2 * fraction);
        }
        text += ", ";
    }
    let comparison = &summary["comparison"];
    let ratio = comparison["speed_ratio"].as_f64().unwrap_or(f64::NAN);
    let _ =
        write!(text, "{ratio:.2}x that of {}", comparison["fastest"].as_str().unwrap_or("no other program"));
    if let Some(ratio) = comparison["memory_ratio"].as_f64() {
        let _ = write!(text, "; {ratio:.2}x the memory");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::side::Side;
    use crate::bench::summary::{Summary, tests::round};

    #[test]
    fn a_line_has_both_speeds_and_their_ratio() {
        let case = Case::new(Work::Train, Config::S, Precision::F32);
        let round = round(&[(Side::Kindling, 768.0 / 150.0, 50), (Side::Compile, 768.0 / 200.0, 100)], 0.0);
        let text = summary_text(&serde_json::to_value(Summary::of(&[round], &case)).unwrap());
        for part in [
            "compile 200,000 tokens/s",
            "kindling 150,000 tokens/s",
            "0.75x that of compile; 0.50x the memory",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn the_command_reads_nothing_from_the_checkout() {
        let runner =
            PackRunner { pack: "/pack".into(), device: "cuda".to_owned(), timeout: std::time::Duration::MAX };
        let case = Case::new(Work::Train, Config::B, Precision::Bf16);
        let command = runner.bench_command(&case, 4, Path::new("python"), Path::new("/pack/logs/b.json"));
        let args: Vec<_> = command.get_args().map(|arg| arg.to_str().unwrap()).collect();
        assert_eq!(
            args.join(" "),
            "bench train --config B --precision bf16 --batch-size 4 --device cuda --python python \
             --kindling /pack/kindling --reference /pack/reference --folder /pack/logs --output /pack/logs/b.json"
        );
    }
}
