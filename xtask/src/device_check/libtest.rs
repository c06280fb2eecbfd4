//! Parses the output of test programs.

use serde::Serialize;

use crate::common::is_cpu;

/// Before the device in the message of `kernels::testing::test_device`, which prints none if the CPU was chosen.
const RUN_ON: &str = "; the tests run on ";

/// The counts of a test summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) ignored: usize,
}

impl Counts {
    /// Reads the last summary, because the output of a test could look like one. `None` if the program ended before it.
    pub(crate) fn read(output: &str) -> Option<Self> {
        let summary =
            output.lines().filter_map(|line| line.trim().strip_prefix("test result: ")).next_back()?;
        let (_verdict, counts) = summary.split_once(". ")?;
        let count = |unit: &str| {
            let count = counts.split("; ").find_map(|count| count.strip_suffix(unit))?;
            count.trim().parse().ok()
        };
        Some(Self { passed: count(" passed")?, failed: count(" failed")?, ignored: count(" ignored")? })
    }

    /// Text for the table.
    pub(crate) fn text(self) -> String {
        let Self { passed, failed, ignored } = self;
        let more = [(failed, "failed"), (ignored, "ignored")].into_iter().filter(|&(count, _)| count > 0);
        more.fold(format!("{passed} passed"), |text, (count, verdict)| format!("{text}, {count} {verdict}"))
    }
}

/// The device that tests ran on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RanOn {
    /// The chosen device.
    Device,
    /// The CPU, because no test opened a device.
    Cpu,
    /// The CPU, because the device is missing.
    Fallback,
}

impl RanOn {
    /// Parses the output of tests for `device`.
    pub(crate) fn read(output: &str, device: &str) -> Self {
        let message = output.lines().find_map(|line| line.split_once(RUN_ON));
        match message {
            _ if is_cpu(device) => Self::Device,
            Some((_, "the CPU")) => Self::Fallback,
            Some(_) => Self::Device,
            None => Self::Cpu,
        }
    }

    /// Text for the table.
    pub(crate) fn text(self, device: &str) -> String {
        match self {
            Self::Device => device.to_owned(),
            Self::Cpu => "cpu".to_owned(),
            Self::Fallback => format!("cpu (no {device})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_summary_counts() {
        let output = "running 3 tests\ntest result: ok. 9 passed; 0 failed; 0 ignored; 0 measured\n\n\
            test result: FAILED. 1 passed; 2 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.53s\n\n";
        let counts = Counts { passed: 1, failed: 2, ignored: 3 };
        assert_eq!(Counts::read(output), Some(counts));
        assert_eq!(counts.text(), "1 passed, 2 failed, 3 ignored");
        assert_eq!(Counts { failed: 0, ignored: 0, ..counts }.text(), "1 passed");
    }

    #[test]
    fn a_program_that_ends_early_has_no_counts() {
        for output in ["", "running 3 tests\ntest it ... ", "test result: ok", "test result: ok. some passed"]
        {
            assert_eq!(Counts::read(output), None, "{output}");
        }
    }

    /// The messages have to agree with `kernels/src/testing.rs`.
    #[test]
    fn the_device_is_read_from_the_output() {
        let source = include_str!("../../../crates/kernels/src/testing.rs");
        let (there, not_there) = ("; the tests run on cuda:0", "; the tests run on the CPU");
        assert!(
            source.contains("; the tests run on {there}\"") && source.contains(&format!("{not_there}\""))
        );

        let ran = |output: &str, device: &str| RanOn::read(output, device).text(device);
        assert_eq!(ran(&format!("x\nKINDLING_TEST_DEVICE is \"cuda\"{there}\n"), "cuda"), "cuda");
        let fallen = format!("KINDLING_TEST_DEVICE is \"cuda\", and there is no driver{not_there}\nx");
        assert_eq!(ran(&fallen, "cuda"), "cpu (no cuda)");
        assert_eq!(ran("no test asks", "cuda"), "cpu");
        assert_eq!(ran("", "cpu-plain"), "cpu-plain");
    }
}
