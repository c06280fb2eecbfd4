//! The measurements of `kindling bench`, as JSON or text.

use std::{
    io::{self, Write},
    iter,
    time::Duration,
};

use indicatif::DecimalBytes;
use journal::summary::plural;
use serde::Serialize;

/// The first iteration is reported if it takes this much longer than the median.
const SLOW_START_MS: f64 = 500.0;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) train: Option<Speed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prefill: Option<Speed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) decode: Option<Speed>,
    /// Null if the system does not report it.
    pub(super) peak_memory_bytes: Option<u64>,
    /// Memory reserved on a GPU. The pool returns little of it before the process ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peak_device_memory_bytes: Option<u64>,
    /// Peak FLOP/s: f32 multiply-adds on a CPU, the product of large bf16 matrices on a GPU with bf16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peak_flops_per_second: Option<f64>,
    /// Peak memory bandwidth of a CPU in bytes/s; only when decode is measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peak_bytes_per_second: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Speed {
    pub(super) tokens_per_second: f64,
    /// Tokens per measurement: a training step, a prompt, or one token of each sample.
    pub(super) tokens: u64,
    /// Median.
    pub(super) milliseconds: f64,
    /// Fastest and slowest measurement.
    pub(super) milliseconds_range: [f64; 2],
    pub(super) measurements: usize,
    /// The first warm-up iteration, which compiles kernels on a GPU.
    pub(super) first_milliseconds: f64,
    /// Counted as in [`roofline::Sizes`].
    pub(super) flops_per_second: f64,
    /// Per measurement: the weights once, and the KV caches, half full. Only for decode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes_read: Option<u64>,
    /// Only for decode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes_per_second: Option<f64>,
}

impl Report {
    /// Prints a few lines for each part, and the memory.
    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        for (name, speed) in [("train", &self.train), ("prefill", &self.prefill), ("decode", &self.decode)] {
            if let Some(speed) = speed {
                let [low, high] = speed.milliseconds_range;
                writeln!(
                    out,
                    "{name:<8} {:>9.0} tokens/s   median {:.2} ms ({low:.2} to {high:.2}) for {}, {} times",
                    speed.tokens_per_second,
                    speed.milliseconds,
                    plural(speed.tokens, "token"),
                    speed.measurements
                )?;
                for line in self.rates(speed).into_iter().chain(speed.slow_start()) {
                    writeln!(out, "{:8} {line}", "")?;
                }
            }
        }
        if let Some(peak) = self.peak_memory_bytes {
            writeln!(out, "peak memory {} MiB", peak >> 20)?;
        }
        if let Some(peak) = self.peak_device_memory_bytes {
            writeln!(out, "peak device memory {} MiB", peak >> 20)?;
        }
        Ok(())
    }

    /// Lines with FLOP/s, the bytes read and their bandwidth, with shares of the device's peaks.
    fn rates(&self, speed: &Speed) -> Vec<String> {
        let line = |rate: f64, peak: Option<f64>, unit: &str| {
            let part = peak
                .map(|peak| format!(", {:.0} % of the peak of {:.0} here", 1e2 * rate / peak, 1e-9 * peak));
            format!("{:>9.1} {unit}{}", 1e-9 * rate, part.unwrap_or_default())
        };
        let computing = line(speed.flops_per_second, self.peak_flops_per_second, "GFLOP/s");
        let reading = speed.bytes_per_second.map(|rate| line(rate, self.peak_bytes_per_second, "GB/s"));
        let step =
            speed.bytes_read.map(|bytes| format!("{:>9} read per step", DecimalBytes(bytes).to_string()));
        iter::once(computing).chain(step).chain(reading).collect()
    }
}

impl Speed {
    /// The speed by the measurements after the warm-up, or by the last if there are fewer. `tokens` and `flops` are per
    /// measurement.
    ///
    /// # Panics
    ///
    /// If there are no measurements.
    pub(super) fn of(mut times: Vec<Duration>, n_warmup: usize, tokens: u64, flops: f64) -> Self {
        let first = times[0];
        times.drain(..n_warmup.min(times.len() - 1));
        times.sort_unstable();
        let milliseconds = |time: Duration| 1e3 * time.as_secs_f64();
        let median = times[times.len() / 2];
        Self {
            tokens_per_second: tokens as f64 / median.as_secs_f64(),
            tokens,
            milliseconds: milliseconds(median),
            milliseconds_range: [milliseconds(times[0]), milliseconds(times[times.len() - 1])],
            measurements: times.len(),
            first_milliseconds: milliseconds(first),
            flops_per_second: flops / median.as_secs_f64(),
            bytes_read: None,
            bytes_per_second: None,
        }
    }

    /// A line with the time of the first iteration, if it is much longer than the median.
    fn slow_start(&self) -> Option<String> {
        (self.first_milliseconds > self.milliseconds + SLOW_START_MS).then(|| {
            format!(
                "{:>9.1} s for the first iteration, which compiles and tunes kernels",
                1e-3 * self.first_milliseconds
            )
        })
    }
}
