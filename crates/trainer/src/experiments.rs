//! Two experiments with a recipe: whether the model can learn one batch by heart, and which learning rate suits.

use std::sync::Arc;

use burn::prelude::Device;
use dataset::Tokens;
use model::Gpt;

use crate::{
    Control, Error, Recipe,
    probe::{Probe, Probed, probe},
};

/// Steps in which one batch has to be learnt.
const OVERFIT_STEPS: u64 = 500;

/// A loss, as a share of the first, that only a batch learnt by heart has.
const BY_HEART: f64 = 0.1;

/// Steps of a sweep of learning rates.
pub const SWEEP_STEPS: u64 = 120;

/// The ends of a sweep.
pub const SWEEP_RATES: [f64; 2] = [1e-6, 1.0];

/// How much of the mean of losses a step of the sweep keeps.
const SMOOTHING: f64 = 0.9;

/// A sweep ends when the loss is so many times the lowest.
const BLOWN_UP: f64 = 3.0;

/// How one batch was learnt, in nats per token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overfit {
    /// The loss before the first step.
    pub first_loss: f64,
    /// The loss before the last step.
    pub last_loss: f64,
    /// Steps taken.
    pub n_steps: u64,
}

impl Overfit {
    /// Whether the batch is learnt by heart.
    pub fn is_learnt(&self) -> bool {
        self.last_loss < BY_HEART * self.first_loss
    }
}

/// Takes steps on one batch until it is learnt by heart, or there were enough; none if it is stopped before the first.
/// `observe` is told of each step, and whether the batch is learnt.
///
/// # Errors
///
/// If the text is shorter than a block.
pub fn overfit_one_batch(
    (model, recipe): (Gpt, &Recipe),
    tokens: Arc<Tokens>,
    device: &Device,
    control: &Control,
    mut observe: impl FnMut(Probed, bool),
) -> Result<Option<Overfit>, Error> {
    let mut overfit: Option<Overfit> = None;
    probe(Probe::OneBatch, (model, recipe), tokens, device, OVERFIT_STEPS, control, |probed| {
        let (first_loss, last_loss) = (overfit.map_or(probed.loss, |it| it.first_loss), probed.loss);
        let reached = Overfit { first_loss, last_loss, n_steps: probed.step + 1 };
        overfit = Some(reached);
        observe(probed, reached.is_learnt());
        if reached.is_learnt() {
            control.stop();
        }
    })?;
    Ok(overfit)
}

/// Takes steps at learning rates from small to large, until the loss blows up. `observe` is told of each step.
///
/// # Errors
///
/// If the text is shorter than a block.
pub fn sweep_learning_rates(
    (model, recipe): (Gpt, &Recipe),
    tokens: Arc<Tokens>,
    device: &Device,
    control: &Control,
    mut observe: impl FnMut(Probed),
) -> Result<Sweep, Error> {
    let [lowest, highest] = SWEEP_RATES;
    let mut sweep = Sweep::default();
    let rates = Probe::LearningRate { lowest, highest };
    probe(rates, (model, recipe), tokens, device, SWEEP_STEPS, control, |probed| {
        observe(probed);
        sweep.record_step(probed);
        if sweep.has_blown_up() {
            control.stop();
        }
    })?;
    Ok(sweep)
}

/// The losses of a sweep.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Learning rate and smoothed loss of each step.
    pub smooth: Vec<(f64, f64)>,
    mean: f64,
    blown_up: bool,
}

/// What a sweep speaks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SuggestedRate {
    /// Where the loss falls fastest.
    pub steepest: f64,
    /// Where it is lowest.
    pub lowest: f64,
    /// Between the two: where the loss still falls, with room to the rate at which it no longer does.
    pub suggested: f64,
}

impl Sweep {
    /// Adds a step.
    pub(crate) fn record_step(&mut self, probed: Probed) {
        if !probed.loss.is_finite() {
            self.blown_up = true;
            return;
        }
        self.mean = SMOOTHING * self.mean + (1.0 - SMOOTHING) * probed.loss;
        // A mean that starts at zero is too low at first, by a factor that is known.
        let share = 1.0 - SMOOTHING.powf((self.smooth.len() + 1) as f64);
        self.smooth.push((probed.learning_rate, self.mean / share));
    }

    /// Whether higher rates have nothing more to show.
    pub(crate) fn has_blown_up(&self) -> bool {
        let lowest = self.smooth.iter().map(|(_, loss)| *loss).fold(f64::INFINITY, f64::min);
        self.blown_up || self.smooth.last().is_some_and(|(_, loss)| *loss > BLOWN_UP * lowest)
    }

    /// The rate that the losses speak for; none if the loss never fell.
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

    /// A loss that falls from 4 to 2 around a rate of 1e-3, and blows up above 1e-1.
    fn sweep() -> Sweep {
        let mut sweep = Sweep::default();
        for step in 0..SWEEP_STEPS {
            let learning_rate = 1e-6 * 1e6_f64.powf(step as f64 / (SWEEP_STEPS - 1) as f64);
            let fallen = 1.0 / (1.0 + (1e-3 / learning_rate).powi(2));
            let risen = (learning_rate / 0.2).powi(2);
            sweep.record_step(Probed { step, learning_rate, loss: 4.0 - 2.0 * fallen + 10.0 * risen });
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
        let found = sweep.suggestion().unwrap();
        assert!((5e-4..5e-3).contains(&found.steepest), "{found:?}");
        assert!(found.steepest < found.suggested && found.suggested < found.lowest, "{found:?}");
        assert!(found.lowest < 0.1, "{found:?}");
    }

    #[test]
    fn a_loss_that_only_rises_speaks_for_nothing() {
        let mut sweep = Sweep::default();
        for step in 0..5 {
            sweep.record_step(Probed { step, learning_rate: 10.0 + step as f64, loss: 4.0 + step as f64 });
        }
        assert_eq!(sweep.suggestion(), None);
        sweep.record_step(Probed { step: 5, learning_rate: 20.0, loss: f64::NAN });
        assert!(sweep.has_blown_up());
    }
}
