//! What a program of tests says of itself.

use serde::Serialize;

use crate::common::is_cpu;

/// As `kernels::testing::test_device` begins to say where tests run. It says nothing of a CPU that was asked for.
const RUN_ON: &str = "; the tests run on ";

/// How many tests there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) ignored: usize,
}

impl Counts {
    /// Those of the last summary; what a test printed could look like one, and comes before. None if the program did not
    /// come so far.
    pub(crate) fn read(output: &str) -> Option<Self> {
        let summary =
            output.lines().filter_map(|line| line.trim().strip_prefix("test result: ")).next_back()?;
        let (_verdict, counts) = summary.split_once(". ")?;
        let count = |what: &str| {
            let count = counts.split("; ").find_map(|count| count.strip_suffix(what))?;
            count.trim().parse().ok()
        };
        Some(Self { passed: count(" passed")?, failed: count(" failed")?, ignored: count(" ignored")? })
    }

    /// As the table has it.
    pub(crate) fn text(self) -> String {
        let Self { passed, failed, ignored } = self;
        let more = [(failed, "failed"), (ignored, "ignored")].into_iter().filter(|&(count, _)| count > 0);
        more.fold(format!("{passed} passed"), |text, (count, what)| format!("{text}, {count} {what}"))
    }
}

/// Where tests ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ran {
    Where,
    /// On the CPU, because no test asked for a device.
    OnCpu,
    /// On the CPU, because the device is not there.
    FellBack,
}

impl Ran {
    /// Reads it from the output of tests that were told to run on `device`.
    pub(crate) fn read(output: &str, device: &str) -> Self {
        let told = output.lines().find_map(|line| line.split_once(RUN_ON));
        match told {
            _ if is_cpu(device) => Self::Where,
            Some((_, "the CPU")) => Self::FellBack,
            Some(_) => Self::Where,
            None => Self::OnCpu,
        }
    }

    /// As the table has it.
    pub(crate) fn text(self, device: &str) -> String {
        match self {
            Self::Where => device.to_owned(),
            Self::OnCpu => "cpu".to_owned(),
            Self::FellBack => format!("cpu (no {device})"),
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

    /// The sentences are those of `kernels/src/testing.rs`.
    #[test]
    fn it_shows_where_tests_really_ran() {
        let source = include_str!("../../../crates/kernels/src/testing.rs");
        let (there, not_there) = ("; the tests run on cuda:0", "; the tests run on the CPU");
        assert!(
            source.contains("; the tests run on {there}\"") && source.contains(&format!("{not_there}\""))
        );

        let ran = |output: &str, device: &str| Ran::read(output, device).text(device);
        assert_eq!(ran(&format!("x\nKINDLING_TEST_DEVICE is \"cuda\"{there}\n"), "cuda"), "cuda");
        let fallen = format!("KINDLING_TEST_DEVICE is \"cuda\", and there is no driver{not_there}\nx");
        assert_eq!(ran(&fallen, "cuda"), "cpu (no cuda)");
        assert_eq!(ran("no test asks", "cuda"), "cpu");
        assert_eq!(ran("", "cpu-plain"), "cpu-plain");
    }
}
