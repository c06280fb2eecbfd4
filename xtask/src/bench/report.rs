//! The results of a benchmark, as JSON and as a table.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{BinaryBytes, HumanCount};
use serde::Serialize;
use serde_json::{Map, Value};

use super::case::{Case, Work};
use super::machine::Machine;
use super::summary::{Comparison, Round, Summary, median};
use crate::common::{is_cpu, name};

/// The JSON report of one case.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) case: Case,
    pub(crate) n_threads: usize,
    pub(crate) started_unix_seconds: u64,
    /// With `-dirty` appended if files were changed; `None` outside a git checkout.
    pub(crate) commit: Option<String>,
    pub(crate) versions: Map<String, Value>,
    pub(crate) machine: Machine,
    pub(crate) device: String,
    /// Each NVIDIA GPU with its driver and memory.
    pub(crate) gpus: Vec<String>,
    /// Operations of one measurement, counted as in [`roofline::Sizes`].
    pub(crate) flops: f64,
    /// For decoding only.
    pub(crate) weight_bytes: Option<f64>,
    pub(crate) rounds: Vec<Round>,
    pub(crate) summary: Summary,
}

impl Report {
    /// The table with the comparison and warnings below it.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("\n{}\n{}\n", self.title(), self.table());
        if let Some(comparison) = &self.summary.comparison {
            text += &comparison.text();
        }
        if let Some(ratio) = self.summary.speed_ratio_to_f32 {
            let _ = writeln!(text, "speed: {ratio:.2}x Kindling in f32");
        }
        let peak = |of: &dyn Fn(&Round) -> Option<f64>| {
            let values: Option<Vec<f64>> = self.rounds.iter().map(of).collect();
            values.map(|values| 1e-9 * median(values))
        };
        if let Some(peak) = peak(&|round| round.peak_flops_per_second) {
            let of = if is_cpu(&self.device) {
                "f32 multiply-adds on this machine"
            } else {
                "bf16 matrix products on the GPU"
            };
            let _ = writeln!(text, "peak of {of}: {peak:.0} GFLOP/s");
        }
        if let Some(peak) = peak(&|round| round.peak_bytes_per_second) {
            let _ = writeln!(text, "peak memory bandwidth of this machine: {peak:.1} GB/s");
        }
        let n_disturbed = self.rounds.iter().filter(|round| round.is_disturbed()).count();
        if n_disturbed > 0 {
            let n_rounds = self.rounds.len();
            let _ = writeln!(
                text,
                "warning: other processes used the CPU in {n_disturbed} of {n_rounds} rounds; \
                 these results are unreliable, repeat the benchmark on an idle machine"
            );
        }
        text
    }

    fn title(&self) -> String {
        let Case { config, model, vocab_size, batch_size, amount, .. } = &self.case;
        let work = match self.case.work {
            Work::Train => format!("batch {batch_size}, {amount} steps"),
            Work::Prefill | Work::Decode => format!("{amount} tokens"),
        };
        let precision = name(&self.case.precision);
        format!(
            "{} {config:?}: {} layers, {} heads, {} wide, block {}, vocabulary {vocab_size}, {work}, {precision}; \
             {}, {} threads, {} rounds",
            name(&self.case.work),
            model.n_layer,
            model.n_head,
            model.n_embd,
            model.block_size,
            self.device,
            self.n_threads,
            self.rounds.len(),
        )
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        let mut header = vec!["", "median ms", "tokens/s", "first s", "peak memory", "GFLOP/s", "of peak"];
        header.extend(self.weight_bytes.map(|_| "of bandwidth"));
        table.set_header(header);
        for (side, of) in &self.summary.sides {
            let mut row = vec![
                name(side),
                format!("{:.2}", of.milliseconds),
                per_second(of.tokens_per_second),
                format!("{:.1}", 1e-3 * of.first_milliseconds),
                of.peak_memory_bytes.map_or("unknown".into(), |bytes| BinaryBytes(bytes).to_string()),
                format!("{:.1}", 1e-9 * of.flops_per_second),
                of.fraction_of_peak_flops.map_or("unknown".into(), percent),
            ];
            row.extend(of.fraction_of_peak_bandwidth.map(percent));
            table.add_row(row);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

impl Comparison {
    fn text(&self) -> String {
        let [low, high] = self.speed_ratio_range;
        let fastest = name(&self.fastest);
        let mut text =
            format!("speed: {:.2}x that of {fastest}, by round {low:.2}x to {high:.2}x\n", self.speed_ratio);
        if let (Some(side), Some(ratio)) = (self.smallest, self.memory_ratio) {
            let _ = writeln!(text, "peak memory: {ratio:.2}x that of {}", name(&side));
        }
        text
    }
}

impl Round {
    /// A line to print after the round.
    pub(crate) fn text(&self, number: usize, n_rounds: usize) -> String {
        let mut text = format!("round {number} of {n_rounds}:");
        for (side, of) in &self.sides {
            let _ = write!(text, " {} {:.2} ms,", name(side), of.speed.milliseconds);
        }
        match self.others_share {
            None => text += " unknown CPU share of other processes",
            Some(share) => {
                let _ = write!(text, " other processes used {} of the CPU", percent(share));
            }
        }
        if self.is_disturbed() {
            text += "\nwarning: other processes used enough of the CPU to change the result";
        }
        text
    }
}

fn percent(fraction: f64) -> String {
    format!("{:.1} %", 100.0 * fraction)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a speed of at least one token")]
fn per_second(tokens: f64) -> String {
    if tokens < 100.0 { format!("{tokens:.1}") } else { HumanCount(tokens.round() as u64).to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::side::Side;
    use super::super::summary::tests::round;

    #[test]
    fn a_round_warns_of_other_processes_above_a_limit() {
        let sides = [(Side::Kindling, 45.0, 1), (Side::Eager, 60.0, 1)];
        let quiet = round(&sides, 0.012).text(1, 3);
        assert_eq!(
            quiet,
            "round 1 of 3: kindling 45.00 ms, eager 60.00 ms, other processes used 1.2 % of the CPU"
        );
        let loud = round(&sides, 0.12).text(2, 3);
        assert!(loud.contains("other processes used 12.0 % of the CPU\nwarning: "), "{loud}");
    }
}
