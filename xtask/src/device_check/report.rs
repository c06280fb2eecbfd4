//! The table of results.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use super::check::Check;
use crate::bench::machine::Machine;

/// Printed lines of a failed program's output.
const TAIL: usize = 30;

/// Width of the table in terminal columns.
const WIDTH: u16 = 120;

/// The JSON report.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) commit: Option<String>,
    pub(crate) features: Vec<String>,
    pub(crate) profile: String,
    pub(crate) device: String,
    /// Each NVIDIA GPU with its driver and memory.
    pub(crate) gpus: Vec<String>,
    pub(crate) machine: Machine,
    pub(crate) checks: Vec<Check>,
}

impl Report {
    /// The build and the machine, the table, and the verdict.
    pub(crate) fn text(&self) -> String {
        let Self { profile, device, machine, .. } = self;
        let commit = self.commit.as_deref().unwrap_or("no commit");
        let features = if self.features.is_empty() { "none".to_owned() } else { self.features.join(", ") };
        let mut text = format!("commit {commit}, features {features}, profile {profile}\n");
        let _ = writeln!(text, "cpu: {}, {} cores", machine.cpu, machine.n_cpus);
        for gpu in &self.gpus {
            let _ = writeln!(text, "gpu: {gpu}");
        }
        let n_on_device =
            self.checks.iter().filter(|check| check.failure.is_none() && check.device == *device).count();
        let _ = write!(text, "{}\n{}; {n_on_device} passed on {device}", table(&self.checks), self.verdict());
        text
    }

    pub(crate) fn failed(&self) -> Vec<&Check> {
        self.checks.iter().filter(|check| check.failure.is_some()).collect()
    }

    fn verdict(&self) -> String {
        let n_checks = self.checks.len();
        let names: Vec<&str> = self.failed().into_iter().map(|check| check.name.as_str()).collect();
        match names.len() {
            0 => format!("all {n_checks} passed"),
            n_failed => format!("{n_failed} of {n_checks} FAILED: {}", names.join(", ")),
        }
    }
}

impl Check {
    /// A line to print after the check.
    pub(crate) fn line(&self) -> String {
        format!("{}: {} on {} in {:.1} s", self.name, self.outcome(), self.device, self.seconds)
    }

    fn outcome(&self) -> String {
        match (&self.failure, self.result.as_str()) {
            (None, result) => result.to_owned(),
            (Some(failure), "") => format!("FAILED: {failure}"),
            (Some(failure), result) => format!("FAILED: {failure}; {result}"),
        }
    }

    /// The last lines of its output.
    pub(crate) fn tail(&self, output: &str) -> String {
        let lines: Vec<&str> = output.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL)..];
        let tail: String = tail.iter().map(|line| format!("  {line}\n")).collect();
        format!("{}, end of {}:\n{tail}", self.name, self.log.display())
    }
}

fn table(checks: &[Check]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table.set_header(["", "device", "result", "seconds"]);
    for check in checks {
        let Check { name, device, seconds, .. } = check;
        table.add_row([name, device, &check.outcome(), &format!("{seconds:.1}")]);
    }
    if let Some(seconds) = table.column_mut(3) {
        seconds.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, device: &str, failure: Option<&str>) -> Check {
        Check {
            name: name.to_owned(),
            device: device.to_owned(),
            seconds: 1.25,
            result: "4 passed".to_owned(),
            failure: failure.map(str::to_owned),
            log: "logs/it.log".into(),
            tests: None,
            speeds: None,
        }
    }

    fn report(checks: Vec<Check>) -> String {
        let report = Report {
            commit: None,
            features: vec!["cuda".to_owned()],
            profile: "dev".to_owned(),
            device: "cuda".to_owned(),
            gpus: vec!["NVIDIA H100".to_owned()],
            machine: Machine::this(),
            checks,
        };
        report.text()
    }

    #[test]
    fn the_last_line_has_the_verdict_and_names_failures() {
        let text = report(vec![check("kernels src", "cuda", None), check("cli src/main.rs", "cpu", None)]);
        assert!(text.starts_with("commit no commit, features cuda, profile dev\ncpu: "), "{text}");
        assert!(text.contains("\ngpu: NVIDIA H100\n"), "{text}");
        assert!(text.ends_with("\nall 2 passed; 1 passed on cuda"), "{text}");

        let fell_back = check("model src", "cpu (no cuda)", Some("not run on cuda"));
        let text = report(vec![check("kernels src", "cuda", None), fell_back]);
        assert!(text.contains("FAILED: not run on cuda; 4 passed"), "{text}");
        assert!(text.ends_with("\n1 of 2 FAILED: model src; 1 passed on cuda"), "{text}");
    }

    #[test]
    fn the_tail_is_the_end_of_the_output() {
        let output: String = (1..=40).map(|line| format!("line {line}\n")).collect();
        let tail = check("kernels src", "cuda", Some("exit status: 101")).tail(&output);
        assert!(tail.starts_with("kernels src, end of logs/it.log:\n  line 11\n"), "{tail}");
        assert!(tail.ends_with("  line 40\n"), "{tail}");
    }
}
