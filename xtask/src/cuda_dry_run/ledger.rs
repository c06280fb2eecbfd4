//! The launches of a training step, by kernel.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    ops::Range,
    path::Path,
};

use super::{
    arch::Arch,
    cost::Cost,
    log::{Event, Log},
    program::{Program, Resources},
    steps::{LOG_INTERVAL, Parts},
};

/// Launches of one kernel with one grid, per step.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) kernel: String,
    /// The number of the program, which names the files.
    pub(crate) program: usize,
    pub(crate) launches: f64,
    pub(crate) grid: [u64; 3],
    pub(crate) block: [u64; 3],
    pub(crate) shared_bytes: u64,
    pub(crate) resources: Resources,
    pub(crate) has_tensor_cores: bool,
    /// Sums over the launches of a step.
    pub(crate) bytes: f64,
    pub(crate) flops: f64,
    pub(crate) seconds: f64,
}

/// Calls of the driver between two points.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Calls {
    pub(crate) launches: f64,
    pub(crate) uploads: f64,
    pub(crate) uploaded_bytes: f64,
    pub(crate) downloads: f64,
    pub(crate) copies: f64,
    pub(crate) syncs: f64,
}

/// The ledger of a dry run.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Sorted by the bound of their time, the longest first.
    pub(crate) lines: Vec<Line>,
    /// Per step.
    pub(crate) step: Calls,
    /// Whether all measured steps launch the same. If not, only the last ones count.
    pub(crate) is_steady: bool,
    /// The evaluation and the sample after the last step.
    pub(crate) rest: Calls,
    /// A generated token.
    pub(crate) token: Option<Calls>,
    pub(crate) peak_bytes: u64,
}

impl Ledger {
    /// # Errors
    ///
    /// If the source or the messages of a launched kernel are missing or have another form.
    pub(crate) fn of(log: &Log, parts: &Parts, kernels: &Path, arch: Arch) -> anyhow::Result<Self> {
        let [first, second] = parts.steps.clone().map(|range| log.events[range].to_vec());
        let is_steady = by_kernel(log, &first) == by_kernel(log, &second);
        // The first checkpoint may still be read from the device during the first steps.
        let (events, n_steps) = match is_steady {
            true => ([&first[..], &second].concat(), 2 * LOG_INTERVAL),
            false => (second, LOG_INTERVAL),
        };
        let n_steps = n_steps as f64;
        let mut programs = HashMap::new();
        let mut lines: BTreeMap<(usize, [u64; 3]), Line> = BTreeMap::new();
        for (idx, n) in Log::launches(&events) {
            let shape = &log.shapes[idx];
            let kernel = &log.kernels[shape.kernel];
            let program = match programs.entry(kernel.program) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(Program::read(kernels, kernel.program, &kernel.name)?),
            };
            let cost = Cost::of(shape, program, &kernel.name);
            let line = lines.entry((kernel.program, shape.grid)).or_insert_with(|| Line {
                kernel: kernel.name.clone(),
                program: kernel.program,
                launches: 0.0,
                grid: shape.grid,
                block: shape.block,
                shared_bytes: shape.shared_bytes,
                resources: program.resources,
                has_tensor_cores: program.has_tensor_cores,
                bytes: 0.0,
                flops: 0.0,
                seconds: 0.0,
            });
            let n = n as f64 / n_steps;
            line.launches += n;
            line.bytes += n * cost.bytes;
            line.flops += n * cost.flops;
            line.seconds += n * cost.seconds(arch);
        }
        let mut lines: Vec<_> = lines.into_values().collect();
        lines.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        let calls = |range: &Range<usize>| Calls::of(&log.events[range.clone()], 1.0);
        Ok(Self {
            lines,
            step: Calls::of(&events, n_steps),
            is_steady,
            rest: calls(&parts.rest),
            token: parts.token.as_ref().map(calls),
            peak_bytes: log.peak_bytes,
        })
    }

    pub(crate) fn sum(&self, of: impl Fn(&Line) -> f64) -> f64 {
        self.lines.iter().map(of).sum()
    }
}

/// The launches of each program: arguments such as seeds differ from step to step.
fn by_kernel(log: &Log, events: &[Event]) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    for (shape, n) in Log::launches(events) {
        *counts.entry(log.kernels[log.shapes[shape].kernel].program).or_default() += n;
    }
    counts
}

impl Calls {
    /// Divides the counts by `n`.
    fn of(events: &[Event], n: f64) -> Self {
        let mut calls = Self::default();
        for event in events {
            match event {
                Event::Launch(_) => calls.launches += 1.0 / n,
                Event::Upload(bytes) => {
                    calls.uploads += 1.0 / n;
                    calls.uploaded_bytes += *bytes as f64 / n;
                }
                Event::Download(_) => calls.downloads += 1.0 / n,
                Event::Copy(_) => calls.copies += 1.0 / n,
                Event::Sync => calls.syncs += 1.0 / n,
            }
        }
        calls
    }
}
