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
use trainer::{Control, Probe, Probed};

use crate::{
    console::{evenly, progress_bar, report},
    plot::{SIZE, draw},
    signals::Signals,
    train::Ready,
};

/// Steps in which one batch has to be learnt.
const OVERFIT_STEPS: u64 = 500;

/// A loss, as a share of the first, that only a batch learnt by heart has.
const BY_HEART: f64 = 0.1;

/// Steps of a sweep of learning rates, and its ends.
const SWEEP_STEPS: u64 = 120;
const SWEEP: [f64; 2] = [1e-6, 1.0];

/// Where its picture goes.
const SWEEP_PICTURE: &str = "learning-rate-sweep.svg";

/// How much of the mean of losses a step of the sweep keeps.
const SMOOTHING: f64 = 0.9;

/// A sweep ends when the loss is so many times the lowest.
const BLOWN_UP: f64 = 3.0;

/// Lines that are shown of an experiment.
const SHOWN: usize = 12;

/// Says whether the model can learn one batch by heart.
pub(crate) fn overfit_one_batch(
    ready: Ready,
    device: &Device,
    signals: &Signals,
) -> anyhow::Result<ExitCode> {
    let Ready { recipe, model, prepared, .. } = ready;
    report(format_args!(
        "learning {} tokens by heart, at a learning rate of {:e}",
        recipe.optimizer.batch_size.get() * recipe.model.block_size,
        recipe.optimizer.learning_rate
    ));
    let control = Control::new();
    signals.pass_on(&control);
    let mut seen: Vec<Probed> = Vec::new();
    let mut next_line = 1;
    trainer::probe(
        Probe::OneBatch,
        (model, &recipe),
        prepared.train,
        device,
        OVERFIT_STEPS,
        &control,
        |probed| {
            seen.push(probed);
            let learnt = probed.loss < BY_HEART * seen[0].loss;
            if probed.step + 1 == next_line || learnt {
                report(format_args!("step {:>4}  loss {:.4}", probed.step + 1, probed.loss));
                next_line *= 2;
            }
            if learnt {
                control.stop();
            }
        },
    )?;
    if let Some(code) = signals.by_signal() {
        return Ok(ExitCode::from(code));
    }
    let (Some(first), Some(last)) = (seen.first(), seen.last()) else { bail!("no step was taken") };
    if last.loss < BY_HEART * first.loss {
        writeln!(
            io::stdout(),
            "it can learn: the loss of one batch fell from {:.4} to {:.4}",
            first.loss,
            last.loss
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    bail!(
        "the loss of one batch is {:.4} after {} steps, from {:.4}: the model does not learn it by heart; try another \
         optimizer.learning_rate (--find-learning-rate shows which) or a wider model",
        last.loss,
        seen.len(),
        first.loss
    )
}

/// Shows how the loss goes as the learning rate grows, and which rate that speaks for.
pub(crate) fn find_learning_rate(
    ready: Ready,
    device: &Device,
    signals: &Signals,
) -> anyhow::Result<ExitCode> {
    let Ready { recipe, model, prepared, .. } = ready;
    let [lowest, highest] = SWEEP;
    report(format_args!("trying learning rates from {lowest:e} to {highest:e}"));
    let control = Control::new();
    signals.pass_on(&control);
    let mut sweep = Sweep::default();
    let probe = Probe::LearningRate { lowest, highest };
    let bar = progress_bar("{bar:24} {pos}/{len} learning rates  {eta} left");
    bar.set_length(SWEEP_STEPS);
    let swept =
        trainer::probe(probe, (model, &recipe), prepared.train, device, SWEEP_STEPS, &control, |probed| {
            bar.inc(1);
            sweep.take_in(probed);
            if sweep.has_blown_up() {
                control.stop();
            }
        });
    bar.finish_and_clear();
    swept?;
    if let Some(code) = signals.by_signal() {
        return Ok(ExitCode::from(code));
    }
    for (rate, loss) in evenly(&sweep.smooth, SHOWN) {
        report(format_args!("learning rate {rate:.1e}  loss {loss:.4}"));
    }
    let found = sweep.found();
    let path = Path::new(SWEEP_PICTURE);
    let picture = draw(&sweep.chart(found.as_ref()), path, SIZE)?;
    fs::write(path, picture).with_context(|| format!("write {}", path.display()))?;
    report(format_args!("drew {}", path.display()));
    let Some(found) = found else {
        bail!("the loss did not fall at any learning rate from {lowest:e} to {highest:e}");
    };
    // The result, for a person or a program.
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

/// The losses of a sweep.
#[derive(Default)]
struct Sweep {
    /// Learning rate and smoothed loss.
    smooth: Vec<(f64, f64)>,
    mean: f64,
    blown_up: bool,
}

/// What a sweep speaks for.
#[derive(Debug, PartialEq)]
struct Found {
    steepest: f64,
    lowest: f64,
    /// Between the two: where the loss still falls, with room to the rate at which it no longer does.
    suggested: f64,
}

impl Sweep {
    fn take_in(&mut self, probed: Probed) {
        if !probed.loss.is_finite() {
            self.blown_up = true;
            return;
        }
        self.mean = SMOOTHING * self.mean + (1.0 - SMOOTHING) * probed.loss;
        // A mean that starts at zero is too low at first, by a factor that is known.
        let share = 1.0 - SMOOTHING.powf((self.smooth.len() + 1) as f64);
        self.smooth.push((probed.learning_rate, self.mean / share));
    }

    fn has_blown_up(&self) -> bool {
        let lowest = self.smooth.iter().map(|(_, loss)| *loss).fold(f64::INFINITY, f64::min);
        self.blown_up || self.smooth.last().is_some_and(|(_, loss)| *loss > BLOWN_UP * lowest)
    }

    /// Loss by learning rate, with the rate to try marked, up to where the loss is above what it was at first.
    fn chart(&self, found: Option<&Found>) -> Chart {
        let first = self.smooth.first().map_or(f64::MAX, |point| point.1);
        let points: Vec<[f64; 2]> = self
            .smooth
            .iter()
            .filter(|point| point.1 <= 1.1 * first)
            .map(|&(rate, loss)| [rate, loss])
            .collect();
        let marked =
            found.and_then(|found| points.iter().rev().find(|point| point[0] <= found.suggested).copied());
        let title = found
            .map_or_else(String::new, |found| format!("a learning rate to try: {:.0e}", found.suggested));
        Chart {
            title,
            x_label: "learning rate".to_owned(),
            x_scale: Scale::Log,
            y_label: "loss (nats per token), smoothed".to_owned(),
            y_scale: Scale::Linear,
            series: vec![Series {
                name: "training".to_owned(),
                points,
                style: Style::Strong,
                color: 0,
                marked,
            }],
        }
    }

    /// Nothing if the loss never fell.
    fn found(&self) -> Option<Found> {
        let best = (0..self.smooth.len()).min_by(|&a, &b| self.smooth[a].1.total_cmp(&self.smooth[b].1))?;
        let falling = &self.smooth[..=best];
        let steepest =
            falling.windows(2).min_by(|a, b| (a[1].1 - a[0].1).total_cmp(&(b[1].1 - b[0].1)))?[1].0;
        let lowest = self.smooth[best].0;
        Some(Found { steepest, lowest, suggested: (steepest * lowest).sqrt() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loss that falls from 4 to 2 around a rate of 1e-3, and blows up above 1e-1.
    fn sweep() -> Sweep {
        let mut sweep = Sweep::default();
        for step in 0..SWEEP_STEPS {
            let learning_rate = 1e-6 * 1e6_f64.powf(step as f64 / (SWEEP_STEPS - 1) as f64);
            let fallen = 1.0 / (1.0 + (1e-3 / learning_rate).powi(2));
            let risen = (learning_rate / 0.2).powi(2);
            sweep.take_in(Probed { step, learning_rate, loss: 4.0 - 2.0 * fallen + 10.0 * risen });
            if sweep.has_blown_up() {
                break;
            }
        }
        sweep
    }

    #[test]
    fn a_rate_is_found_where_the_loss_falls() {
        let sweep = sweep();
        assert!((sweep.smooth[0].1 - 4.0).abs() < 1e-4, "the mean is right from the start");
        assert!(sweep.smooth[sweep.smooth.len() - 1].0 < 0.9, "it ends when the loss blows up");
        let found = sweep.found().unwrap();
        assert!((5e-4..5e-3).contains(&found.steepest), "{found:?}");
        assert!(found.steepest < found.suggested && found.suggested < found.lowest, "{found:?}");
        assert!(found.lowest < 0.1, "{found:?}");
    }

    #[test]
    fn the_picture_marks_the_rate_and_leaves_the_explosion_out() {
        let sweep = sweep();
        let found = sweep.found().unwrap();
        let chart = sweep.chart(Some(&found));
        let [curve] = chart.series.as_slice() else { panic!("it has one curve") };
        let marked = curve.marked.unwrap();
        assert!((0.8..=1.0).contains(&(marked[0] / found.suggested)), "{marked:?} of {found:?}");
        assert!(curve.points.len() > 50 && curve.points.iter().all(|point| point[1] < 4.5));
        chart.svg(SIZE).unwrap();
    }

    #[test]
    fn a_loss_that_only_rises_speaks_for_nothing() {
        let mut sweep = Sweep::default();
        for step in 0..5 {
            sweep.take_in(Probed { step, learning_rate: 10.0 + step as f64, loss: 4.0 + step as f64 });
        }
        assert_eq!(sweep.found(), None);
        sweep.take_in(Probed { step: 5, learning_rate: 20.0, loss: f64::NAN });
        assert!(sweep.has_blown_up());
    }
}
