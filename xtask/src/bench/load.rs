//! The CPU share of other processes during a measurement.

use std::fs;

/// CPU time since the start of the machine and of this process, in Linux clock ticks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ticks {
    /// All CPUs together, busy or idle.
    total: u64,
    /// The idle part of `total`.
    idle: u64,
    /// The part of `total` used by this process and by the children it waited for.
    own: u64,
}

impl Ticks {
    /// The current counts; `None` if the system does not report them.
    pub(crate) fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?, &fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// See proc(5): `cpu user nice system idle iowait irq softirq steal ...` for the machine, and fields 14 to 17 for the
    /// process. The second field there is the name in parentheses.
    fn parse(machine: &str, process: &str) -> Option<Self> {
        let cpu = numbers(machine.lines().next()?.strip_prefix("cpu ")?);
        let (_, fields) = process.rsplit_once(')')?;
        let fields = numbers(fields.trim_start().split_once(' ')?.1); // From the fourth field.
        Some(Self {
            total: cpu.get(..8)?.iter().sum(),
            idle: cpu[3] + cpu[4],
            own: fields.get(10..14)?.iter().sum(),
        })
    }

    /// The CPU share of other processes since `earlier`, from 0 to 1. It includes time that a host took from a virtual
    /// machine (steal).
    pub(crate) fn others_since(self, earlier: Self) -> f64 {
        let total = self.total.saturating_sub(earlier.total);
        let idle = self.idle.saturating_sub(earlier.idle);
        let own = self.own.saturating_sub(earlier.own);
        total.saturating_sub(idle).saturating_sub(own) as f64 / total.max(1) as f64
    }
}

/// Unparsable and negative numbers count as zero; the fields used here are never negative.
fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace().map(|number| number.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: &str = "cpu  100 20 30 4000 50 6 7 8 9 10\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
    const PROCESS: &str = "77 (a (strange) name) S 1 2 3 4 -1 5 6 7 8 9 11 12 13 14 20 0 1 0 99\n";

    #[test]
    fn linux_proc_files_are_parsed() {
        let ticks = Ticks::parse(MACHINE, PROCESS).unwrap();
        assert_eq!(ticks, Ticks { total: 4221, idle: 4050, own: 11 + 12 + 13 + 14 });
    }

    #[test]
    fn other_files_are_rejected() {
        assert_eq!(Ticks::parse("", PROCESS), None);
        assert_eq!(Ticks::parse("cpu 1 2 3\n", PROCESS), None);
        assert_eq!(Ticks::parse(MACHINE, "77 no name"), None);
    }

    #[test]
    fn time_that_is_neither_idle_nor_ours_is_that_of_others() {
        let earlier = Ticks { total: 1000, idle: 500, own: 100 };
        let now = Ticks { total: 1200, idle: 520, own: 260 };
        assert_eq!(now.others_since(earlier), 0.1);
        let alone = Ticks { own: 281, ..now };
        assert_eq!(alone.others_since(earlier), 0.0, "a tick counted late does not make it negative");
        assert_eq!(now.others_since(now), 0.0);
    }
}
