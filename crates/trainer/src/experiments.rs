//! Two experiments with a recipe: overfitting one batch, and a sweep of learning rates.

use burn::prelude::Device;
use model::Gpt;

use crate::{
    Control, Error, Recipe, TrainingData,
    probe::{Probe, ProbeStep, probe},
};

/// Maximum number of steps to memorise one batch.
const OVERFIT_STEPS: u64 = 500;

/// A batch counts as memorised below this share of its first loss.
const MEMORISED_SHARE: f64 = 0.1;

/// Number of steps in a learning-rate sweep.
pub const SWEEP_STEPS: u64 = 120;

/// The first and last learning rate of a sweep.
pub const SWEEP_RATES: [f64; 2] = [1e-6, 1.0];

/// Decay of the moving average of the losses.
const SMOOTHING: f64 = 0.9;

/// A sweep ends when the smoothed loss is this many times its lowest value.
const DIVERGED_RATIO: f64 = 3.0;

/// The result of overfitting one batch. Losses are in nats per token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overfit {
    pub first_loss: f64,
    /// Before the last step.
    pub last_loss: f64,
    pub n_steps: u64,
}

impl Overfit {
    /// Whether the loss fell far enough that the batch must be memorised.
    pub fn is_memorised(&self) -> bool {
        self.last_loss < MEMORISED_SHARE * self.first_loss
    }
}

/// Trains on one batch until it is memorised or the maximum number of steps is reached. `observe` receives each step
/// and whether the batch is memorised. Returns `None` if stopped before the first step.
///
/// # Errors
///
/// If the text is shorter than a block.
pub fn overfit_one_batch(
    (model, recipe): (Gpt, &Recipe),
    data: &TrainingData,
    device: &Device,
    control: &Control,
    mut observe: impl FnMut(ProbeStep, bool),
) -> Result<Option<Overfit>, Error> {
    let mut overfit: Option<Overfit> = None;
    probe(Probe::OneBatch, (model, recipe), data, device, OVERFIT_STEPS, control, |probed| {
        let (first_loss, last_loss) = (overfit.map_or(probed.loss, |it| it.first_loss), probed.loss);
        let reached = Overfit { first_loss, last_loss, n_steps: probed.step + 1 };
        overfit = Some(reached);
        observe(probed, reached.is_memorised());
        if reached.is_memorised() {
            control.stop();
        }
    })?;
    Ok(overfit)
}

/// Trains with a learning rate that grows each step, until the loss diverges. `observe` receives each step.
///
/// # Errors
///
/// If the text is shorter than a block.
pub fn sweep_learning_rates(
    (model, recipe): (Gpt, &Recipe),
    data: &TrainingData,
    device: &Device,
    control: &Control,
    mut observe: impl FnMut(ProbeStep),
) -> Result<Sweep, Error> {
    let [lowest, highest] = SWEEP_RATES;
    let mut sweep = Sweep::default();
    let rates = Probe::LearningRate { lowest, highest };
    probe(rates, (model, recipe), data, device, SWEEP_STEPS, control, |probed| {
        observe(probed);
        sweep.record_step(probed);
        if sweep.has_diverged() {
            control.stop();
        }
    })?;
    Ok(sweep)
}

/// The losses of a learning-rate sweep.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Learning rate and smoothed loss of each step.
    pub smooth: Vec<(f64, f64)>,
    mean: f64,
    diverged: bool,
}

/// The learning rates that a sweep found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SuggestedRate {
    /// The rate at which the loss falls fastest.
    pub steepest: f64,
    /// The rate with the lowest loss.
    pub lowest: f64,
    /// The geometric mean of the two: the loss still falls, with a margin to the rate at which it stops.
    pub suggested: f64,
}

impl Sweep {
    pub(crate) fn record_step(&mut self, probed: ProbeStep) {
        if !probed.loss.is_finite() {
            self.diverged = true;
            return;
        }
        self.mean = SMOOTHING * self.mean + (1.0 - SMOOTHING) * probed.loss;
        // The average starts at zero; this corrects its bias, as in Adam.
        let share = 1.0 - SMOOTHING.powf((self.smooth.len() + 1) as f64);
        self.smooth.push((probed.learning_rate, self.mean / share));
    }

    /// Whether the loss has diverged, so that higher rates need not be tried.
    pub(crate) fn has_diverged(&self) -> bool {
        let lowest = self.smooth.iter().map(|(_, loss)| *loss).fold(f64::INFINITY, f64::min);
        self.diverged || self.smooth.last().is_some_and(|(_, loss)| *loss > DIVERGED_RATIO * lowest)
    }

    /// The suggested learning rate; `None` if the loss never fell.
    pub fn suggestion(&self) -> Option<SuggestedRate> {
        let best = (0..self.smooth.len()).min_by(|&a, &b| self.smooth[a].1.total_cmp(&self.smooth[b].1))?;
        let falling = &self.smooth[..=best];
        let steepest =
            falling.windows(2).min_by(|a, b| (a[1].1 - a[0].1).total_cmp(&(b[1].1 - b[0].1)))?[1].0;
        let lowest = self.smooth[best].0;
        Some(SuggestedRate { steepest, lowest, suggested: (steepest * lowest).sqrt() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loss that falls from 4 to 2 around a rate of 1e-3, and diverges above 1e-1.
    fn sweep() -> Sweep {
        let mut sweep = Sweep::default();
        for step in 0..SWEEP_STEPS {
            let learning_rate = 1e-6 * 1e6_f64.powf(step as f64 / (SWEEP_STEPS - 1) as f64);
            let fallen = 1.0 / (1.0 + (1e-3 / learning_rate).powi(2));
            let risen = (learning_rate / 0.2).powi(2);
            sweep.record_step(ProbeStep { step, learning_rate, loss: 4.0 - 2.0 * fallen + 10.0 * risen });
            if sweep.has_diverged() {
                break;
            }
        }
        sweep
    }

    #[test]
    fn the_suggested_rate_is_where_the_loss_falls() {
        let sweep = sweep();
        assert!((sweep.smooth[0].1 - 4.0).abs() < 1e-4, "the average has no bias at the start");
        assert!(sweep.smooth[sweep.smooth.len() - 1].0 < 0.9, "it ends when the loss diverges");
        let found = sweep.suggestion().unwrap();
        assert!((5e-4..5e-3).contains(&found.steepest), "{found:?}");
        assert!(found.steepest < found.suggested && found.suggested < found.lowest, "{found:?}");
        assert!(found.lowest < 0.1, "{found:?}");
    }

    #[test]
    fn a_loss_that_only_rises_has_no_suggestion() {
        let mut sweep = Sweep::default();
        for step in 0..5 {
            sweep.record_step(ProbeStep { step, learning_rate: 10.0 + step as f64, loss: 4.0 + step as f64 });
        }
        assert_eq!(sweep.suggestion(), None);
        sweep.record_step(ProbeStep { step: 5, learning_rate: 20.0, loss: f64::NAN });
        assert!(sweep.has_diverged());
    }
}
