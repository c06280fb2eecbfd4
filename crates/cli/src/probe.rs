//! `kindling train --overfit-one-batch` and `--find-learning-rate`.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, bail};
use burn::prelude::Device;
use chart::{Chart, Scale, Series, Style};
use console::{progress_bar, report};
use journal::{ImageFormat, summary::evenly};
use model::Gpt;
use trainer::{Control, PlannedRun, ProbeStep, SWEEP_RATES, SWEEP_STEPS, SuggestedRate};

use crate::{plot::draw, signals::Signals};

/// Output file for the chart of a sweep.
const SWEEP_CHART: &str = "learning-rate-sweep.svg";

/// Maximum number of progress lines per experiment.
const SHOWN: usize = 12;

/// Reports whether the model can overfit one batch.
pub(crate) fn overfit_one_batch(
    planned: PlannedRun,
    model: Gpt,
    device: &Device,
    signals: &Signals,
) -> anyhow::Result<ExitCode> {
    let PlannedRun { recipe, data, .. } = planned;
    report(format_args!(
        "overfitting one batch of {} tokens, at a learning rate of {:e}",
        recipe.optimizer.batch_size.get() * recipe.model.block_size,
        recipe.optimizer.learning_rate
    ));
    let control = Control::new();
    signals.forward_to(&control);
    let mut next_line = 1;
    let observe = |probed: ProbeStep, is_learnt| {
        if probed.step + 1 == next_line || is_learnt {
            report(format_args!("step {:>4}  loss {:.4}", probed.step + 1, probed.loss));
            next_line *= 2;
        }
    };
    let advice =
        if recipe.lora.is_some() { "a higher lora.rank or more lora.targets" } else { "a wider model" };
    let start = (model, &recipe);
    let overfit = trainer::overfit_one_batch(start, &data.training_data(), device, &control, observe)?;
    if let Some(code) = signals.by_signal() {
        return Ok(ExitCode::from(code));
    }
    let Some(overfit) = overfit else { bail!("no step was run") };
    let (first, last) = (overfit.first_loss, overfit.last_loss);
    if overfit.is_memorised() {
        writeln!(
            io::stdout(),
            "the model can learn: its loss on one batch fell from {first:.4} to {last:.4}"
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    bail!(
        "the model does not overfit one batch: its loss went from {first:.4} to {last:.4} in {} steps; try another \
         optimizer.learning_rate (--find-learning-rate suggests one) or {advice}",
        overfit.n_steps
    )
}

/// Reports the loss as the learning rate rises, and suggests a rate.
pub(crate) fn find_learning_rate(
    planned: PlannedRun,
    model: Gpt,
    device: &Device,
    signals: &Signals,
) -> anyhow::Result<ExitCode> {
    let PlannedRun { recipe, data, .. } = planned;
    let [lowest, highest] = SWEEP_RATES;
    report(format_args!("trying learning rates from {lowest:e} to {highest:e}"));
    let control = Control::new();
    signals.forward_to(&control);
    let bar = progress_bar("{bar:24} {pos}/{len} learning rates  {eta} left");
    bar.set_length(SWEEP_STEPS);
    let start = (model, &recipe);
    let swept = trainer::sweep_learning_rates(start, &data.training_data(), device, &control, |_| bar.inc(1));
    bar.finish_and_clear();
    let sweep = swept?;
    if let Some(code) = signals.by_signal() {
        return Ok(ExitCode::from(code));
    }
    for (rate, loss) in evenly(&sweep.smooth, SHOWN) {
        report(format_args!("learning rate {rate:.1e}  loss {loss:.4}"));
    }
    let found = sweep.suggestion();
    let path = Path::new(SWEEP_CHART);
    let image = draw(ImageFormat::Svg, &chart(&sweep.smooth, found), ImageFormat::SIZE)?;
    fs::write(path, image).with_context(|| format!("cannot write {}", path.display()))?;
    report(format_args!("wrote {}", path.display()));
    let Some(found) = found else {
        bail!("the loss did not fall at any learning rate from {lowest:e} to {highest:e}");
    };
    let set = recipe.optimizer.at_learning_rate(found.suggested);
    writeln!(
        io::stdout(),
        "the loss falls fastest at {:.1e} and is lowest at {:.1e}; try --set {}",
        found.steepest,
        found.lowest,
        set.join(" --set ")
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Loss by learning rate with the suggested rate marked, up to the rate where the loss exceeds its first value by 10 %.
fn chart(smooth: &[(f64, f64)], found: Option<SuggestedRate>) -> Chart {
    let first = smooth.first().map_or(f64::MAX, |point| point.1);
    let points: Vec<[f64; 2]> =
        smooth.iter().filter(|point| point.1 <= 1.1 * first).map(|&(rate, loss)| [rate, loss]).collect();
    let marked =
        found.and_then(|found| points.iter().rev().find(|point| point[0] <= found.suggested).copied());
    let title =
        found.map_or_else(String::new, |found| format!("suggested learning rate: {:.0e}", found.suggested));
    Chart {
        title,
        x_label: "learning rate".to_owned(),
        x_scale: Scale::Log,
        y_label: "loss (nats per token), smoothed".to_owned(),
        y_scale: Scale::Linear,
        series: vec![Series { name: "training".to_owned(), points, style: Style::Strong, color: 0, marked }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chart_marks_the_rate_and_omits_the_divergence() {
        // A loss that falls from 4 to 2 around a rate of 1e-3, and diverges above 1e-1.
        let rates = (0..100).map(|step| 1e-6 * 1e6_f64.powf(f64::from(step) / 100.0));
        let loss = |rate: f64| 4.0 - 2.0 / (1.0 + (1e-3 / rate).powi(2)) + 10.0 * (rate / 0.2).powi(2);
        let smooth: Vec<(f64, f64)> = rates.map(|rate| (rate, loss(rate))).collect();
        let found = SuggestedRate { steepest: 1e-3, lowest: 1e-2, suggested: 3e-3 };
        let chart = chart(&smooth, Some(found));
        let [curve] = chart.series.as_slice() else { panic!("it has one curve") };
        let marked = curve.marked.unwrap();
        assert!((0.8..=1.0).contains(&(marked[0] / found.suggested)), "{marked:?} of {found:?}");
        assert!(curve.points.len() > 50 && curve.points.iter().all(|point| point[1] < 4.5));
        chart.svg(ImageFormat::SIZE).unwrap();
    }
}
