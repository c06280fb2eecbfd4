//! The plan of a run, which `train --dry-run` prints.

use std::io::{self, Write};

use console::program;
use indicatif::{HumanBytes, HumanCount};
use journal::summary::{duration_about, epochs_in_words, sizes};
use monitor::warn_of_epochs;
use roofline::peak_flops;
use trainer::{Cost, Recipe, RunData, Schedule, estimate_memory};

use crate::memory::available_bytes;

/// Width of the learning rate sparkline, in characters.
const CURVE_WIDTH: u64 = 60;

/// Token counts of a run's data.
pub(crate) struct PlannedData {
    train_tokens: usize,
    valid_tokens: usize,
    tokens_per_epoch: usize,
}

impl PlannedData {
    pub(crate) fn of(data: &RunData, recipe: &Recipe) -> dataset::Result<Self> {
        let [train_tokens, valid_tokens] = data.n_tokens();
        Ok(Self {
            train_tokens,
            valid_tokens,
            tokens_per_epoch: data.training_data().tokens_per_epoch(recipe)?,
        })
    }
}

/// Prints the plan of a run from `step` on.
pub(crate) fn print(recipe: &Recipe, data: &PlannedData, step: u64, is_on_cpu: bool) -> anyhow::Result<()> {
    let schedule = &recipe.schedule;
    let (n_steps, epochs) = (schedule.max_steps.saturating_sub(step), recipe.epochs(data.tokens_per_epoch));
    let (train, valid) = (HumanCount(data.train_tokens as u64), HumanCount(data.valid_tokens as u64));
    let from = if step > 0 { format!(", {} left", HumanCount(n_steps)) } else { String::new() };
    let mut rows = vec![
        ("model", sizes(&recipe.model)),
        (
            recipe.data_noun(),
            format!("{}: {train} training tokens, {valid} validation tokens", recipe.data.corpus),
        ),
        (
            "steps",
            format!(
                "{} × {} tokens{from}",
                HumanCount(schedule.max_steps),
                HumanCount(recipe.tokens_per_step())
            ),
        ),
        ("epochs", epochs_in_words(epochs)),
    ];
    if is_on_cpu {
        let cost = Cost::of_steps(recipe, n_steps, peak_flops(rayon::current_num_threads()));
        let (needed, free) = (HumanBytes(estimate_memory(recipe, 1)), HumanBytes(available_bytes()));
        rows.push(("memory", format!("about {needed}, {free} free")));
        rows.push(("time", format!("{}, estimated for the steps alone", duration_about(cost.seconds))));
    } else {
        rows.push((
            "time",
            format!(
                "unknown for this device; measure it with {} bench RECIPE --only train --device DEVICE",
                program()
            ),
        ));
    }
    let curve = Schedule::new(&recipe.optimizer, schedule);
    rows.push(("learning rate", sparkline_of(&curve, step, schedule.max_steps)));
    let mut out = io::stdout().lock();
    for (name, value) in rows {
        writeln!(out, "{name:<14} {value}")?;
    }
    drop(out);
    warn_of_epochs(recipe, epochs);
    Ok(())
}

/// A sparkline of the learning rate from step `first` on, with the highest and the last rate.
fn sparkline_of(curve: &Schedule, first: u64, max_steps: u64) -> String {
    let n_steps = max_steps.saturating_sub(first);
    let n_bars = n_steps.min(CURVE_WIDTH);
    let step_of = |bar: u64| first + (n_steps - 1) * bar / (n_bars - 1).max(1);
    let rates: Vec<f64> = (0..n_bars).map(|bar| curve.at(step_of(bar))).collect();
    let highest = rates.iter().copied().fold(0.0, f64::max);
    match rates.last() {
        Some(last) => format!("{}  at most {highest:.2e}, {last:.2e} at the end", live::sparkline(&rates)),
        None => "no steps left".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sparkline_has_one_bar_per_step_up_to_its_width() {
        let recipe = |set: &str| Recipe::parse(trainer::preset("tiny").unwrap(), &[set.to_owned()]).unwrap();
        let bars = |set: &str, first| {
            let recipe = recipe(set);
            sparkline_of(
                &Schedule::new(&recipe.optimizer, &recipe.schedule),
                first,
                recipe.schedule.max_steps,
            )
        };
        let whole = bars("schedule.max_steps=2800", 0);
        assert_eq!(whole.split_once("  at").unwrap().0.chars().count(), 60, "{whole}");
        assert!(whole.contains('█') && whole.ends_with("  at most 6.00e-3, 2.03e-9 at the end"), "{whole}");
        assert!(bars("schedule.max_steps=3", 0).starts_with("▂▅█  "), "{}", bars("schedule.max_steps=3", 0));
        assert!(bars("schedule.max_steps=1", 0).contains("at most"));
        assert_eq!(bars("schedule.max_steps=3", 3), "no steps left");
        assert!(bars("schedule.max_steps=1000000000000", 0).contains('█'));
    }
}
