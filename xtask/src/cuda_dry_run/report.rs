//! The printed ledger.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use comfy_table::{CellAlignment, Table, presets};
use indicatif::BinaryBytes;

use super::{
    cost::LAUNCH,
    ledger::{Calls, Ledger, Line},
    log::Log,
};

/// The kernels and calls that the compilers and the driver refused.
pub(crate) fn failures(log: &Log, kernels: &Path) -> String {
    let mut text = format!(
        "{} kernels compiled, {} failed; {} calls that the GPU would refuse",
        log.kernels.len(),
        log.failures.len(),
        log.refused.len()
    );
    for failure in &log.failures {
        let path = kernels.join(format!("{:05}.{}", failure.program, failure.stage));
        let _ = write!(text, "\n  {} failed: {}", failure.stage, path.display());
    }
    let mut reasons = BTreeMap::<_, usize>::new();
    for (kernel, reason) in &log.refused {
        let name = kernel.map_or("", |kernel| log.kernels[kernel].name.as_str());
        *reasons.entry((name, reason)).or_default() += 1;
    }
    for ((name, reason), n) in reasons {
        let _ = write!(text, "\n  {n} x {name} {reason}");
    }
    text
}

/// The ledger: totals, launches by name, and the first `top` lines.
pub(crate) fn text(ledger: &Ledger, top: usize) -> String {
    let seconds = ledger.sum(|line| line.seconds);
    let launching = LAUNCH * ledger.step.launches;
    let mut text = format!(
        "step: {}\n  {:.2} GB, {:.2} TFLOP; at least {:.2} ms, of which {:.2} ms for launches\n",
        calls(&ledger.step),
        1e-9 * ledger.sum(|line| line.bytes),
        1e-12 * ledger.sum(|line| line.flops),
        1e3 * seconds,
        1e3 * launching,
    );
    if !ledger.is_steady {
        text += "  the measured steps differ in their launches; only the last ones count\n";
    }
    let _ = writeln!(text, "evaluation and sample: {}", calls(&ledger.rest));
    if let Some(token) = &ledger.token {
        let _ = writeln!(text, "a generated token: {}", calls(token));
    }
    let _ = writeln!(text, "peak device memory: {}", BinaryBytes(ledger.peak_bytes));
    let _ = writeln!(text, "\n{}\n\n{}", by_name(ledger), lines(&ledger.lines, top));
    text
}

fn calls(calls: &Calls) -> String {
    let Calls { launches, uploads, uploaded_bytes, downloads, copies, syncs } = calls;
    format!(
        "{launches:.1} launches, {uploads:.1} uploads ({:.0} kB), {downloads:.1} downloads, {copies:.1} copies, \
         {syncs:.1} synchronisations",
        1e-3 * uploaded_bytes
    )
}

/// Launches, bytes and time of the kernels with the same name.
fn by_name(ledger: &Ledger) -> Table {
    let mut sums = BTreeMap::<&str, [f64; 4]>::new();
    for line in &ledger.lines {
        let sum = sums.entry(family(&line.kernel)).or_default();
        let values = [line.launches, 1e-6 * line.bytes, 1e-9 * line.flops, 1e3 * line.seconds];
        sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by(|(_, a), (_, b)| b[3].total_cmp(&a[3]));
    let mut table = table(&["kernel", "launches", "MB", "GFLOP", "bound, ms"], 1);
    for (name, [launches, megabytes, gigaflops, milliseconds]) in sums {
        table.add_row([
            name.to_owned(),
            format!("{launches:.1}"),
            format!("{megabytes:.1}"),
            format!("{gigaflops:.1}"),
            format!("{milliseconds:.3}"),
        ]);
    }
    table
}

/// The name of a kernel in CubeCL, without its types and its hash: `matmul_entry` of `matmul_entry_lhs_bf16_0a1b2c3d`.
fn family(kernel: &str) -> &str {
    let types = ["_lhs_", "_in_", "_t_", "_e_", "_f_", "_i_", "_n_", "_o_", "_b_"];
    let hash = kernel.rfind('_').unwrap_or(kernel.len());
    let end = types.iter().filter_map(|kind| kernel.find(kind)).min().unwrap_or(hash);
    &kernel[..end.min(hash)]
}

const COLUMNS: [&str; 11] = [
    "program",
    "kernel",
    "launches",
    "grid",
    "block",
    "registers",
    "shared",
    "spilled",
    "MB",
    "GFLOP",
    "bound, ms",
];

fn cells(line: &Line) -> [String; 11] {
    let sides = |[x, y, z]: [u64; 3]| format!("{x}x{y}x{z}");
    [
        format!("{:05}", line.program),
        format!("{}{}", line.kernel, if line.has_tensor_cores { " (tensor cores)" } else { "" }),
        format!("{:.1}", line.launches),
        sides(line.grid),
        sides(line.block),
        line.resources.registers.to_string(),
        line.shared_bytes.to_string(),
        line.resources.spilled_bytes.to_string(),
        format!("{:.1}", 1e-6 * line.bytes),
        format!("{:.1}", 1e-9 * line.flops),
        format!("{:.3}", 1e3 * line.seconds),
    ]
}

fn lines(lines: &[Line], top: usize) -> Table {
    let mut table = table(&COLUMNS, 2);
    for line in &lines[..top.min(lines.len())] {
        table.add_row(cells(line));
    }
    table
}

/// All lines of the ledger.
pub(crate) fn csv(ledger: &Ledger) -> String {
    let rows = ledger.lines.iter().map(|line| cells(line).join(",") + "\n");
    rows.fold(COLUMNS.join(",").replace("bound, ms", "bound_ms") + "\n", |text, row| text + &row)
}

/// A table whose columns from `numbers` on are numbers.
fn table(columns: &[&str], numbers: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(columns);
    for column in table.column_iter_mut().skip(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_grouped_by_name() {
        for (kernel, expected) in [
            ("matmul_entry_lhs_bf16_lhs_size_8_754e25f9", "matmul_entry"),
            ("reduce_kernel_broadcasted_f34989cb", "reduce_kernel_broadcasted"),
            ("unary_numeric_t_f32_n_4_eab67401", "unary_numeric"),
            ("fill", "fill"),
        ] {
            assert_eq!(family(kernel), expected);
        }
    }
}
