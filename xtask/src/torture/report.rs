//! What became of each fault, and the table of all of them.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets};

use super::program::Ended;

/// What a fault did that it must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A run went on from before its last whole checkpoint.
    Lost,
    /// A run can't be gone on with, or a file of it is torn.
    Unreadable,
    /// A run is done and is not the reference run.
    Different,
    /// An exit code or a message is not what was promised.
    Answer,
}

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// Where a program has to fail, and say why.
    pub(crate) fn of_error(what: &str, ended: &Ended) -> Option<Self> {
        ended.not_a_clear_error().map(|wrong| Self::new(Kind::Answer, format!("{what}: {wrong}")))
    }
}

/// One fault that was made.
#[derive(Debug)]
pub(crate) struct Trial {
    /// Which row of the table it belongs to.
    pub(crate) fault: String,
    /// How it came out, in a word or two.
    pub(crate) outcome: String,
    pub(crate) failures: Vec<Failure>,
}

impl Trial {
    pub(crate) fn failed(&self) -> bool {
        !self.failures.is_empty()
    }
}

/// One row for each fault, in the order of the first of each.
pub(crate) fn table(trials: &[&Trial]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "fault",
        "tried",
        "recovered",
        "lost beyond last checkpoint",
        "unreadable",
        "not identical",
        "wrong answer",
    ]);
    let mut faults: Vec<&str> = Vec::new();
    for trial in trials {
        if !faults.contains(&trial.fault.as_str()) {
            faults.push(&trial.fault);
        }
    }
    for fault in faults {
        let of_fault: Vec<&Trial> = trials.iter().copied().filter(|trial| trial.fault == fault).collect();
        table.add_row(row(fault, &of_fault));
    }
    table.add_row(row("all", trials));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    if let Some(recovered) = table.column_mut(2) {
        recovered.set_cell_alignment(CellAlignment::Left);
    }
    table.to_string()
}

fn row(fault: &str, trials: &[&Trial]) -> Vec<String> {
    let n_with = |kind: Kind| {
        let has = |trial: &&&Trial| trial.failures.iter().any(|failure| failure.kind == kind);
        trials.iter().filter(has).count().to_string()
    };
    let recovered: Vec<&Trial> = trials.iter().copied().filter(|trial| !trial.failed()).collect();
    vec![
        fault.to_owned(),
        trials.len().to_string(),
        counted(&recovered, fault == "all"),
        n_with(Kind::Lost),
        n_with(Kind::Unreadable),
        n_with(Kind::Different),
        n_with(Kind::Answer),
    ]
}

/// How many of each outcome, or of all.
fn counted(trials: &[&Trial], is_total: bool) -> String {
    if is_total || trials.is_empty() {
        return trials.len().to_string();
    }
    let mut by_outcome: BTreeMap<&str, usize> = BTreeMap::new();
    for trial in trials {
        *by_outcome.entry(&trial.outcome).or_default() += 1;
    }
    let outcomes: Vec<String> = by_outcome.iter().map(|(outcome, n)| format!("{n} {outcome}")).collect();
    outcomes.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(fault: &str, outcome: &str, kinds: &[Kind]) -> Trial {
        let failures = kinds.iter().map(|&kind| Failure::new(kind, "it")).collect();
        Trial { fault: fault.to_owned(), outcome: outcome.to_owned(), failures }
    }

    #[test]
    fn a_row_counts_trials_and_not_sentences() {
        let trials = [
            trial("flip", "detected", &[]),
            trial("kill", "resumed", &[Kind::Lost, Kind::Different, Kind::Different]),
            trial("flip", "harmless", &[]),
            trial("flip", "detected", &[]),
        ];
        let table = table(&trials.each_ref());
        let rows: Vec<String> = table
            .lines()
            .map(|line| line.replace(['│', '┆'], " ").split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        let flip = rows.iter().position(|row| row == "flip 3 2 detected, 1 harmless 0 0 0 0").unwrap();
        assert_eq!(rows[flip + 1], "kill 1 0 1 0 1 0");
        assert_eq!(rows[flip + 2], "all 4 3 1 0 1 0");
    }
}
