//! Guards: detects steps with a non-finite loss or gradient and loss spikes, whose updates are skipped.

use burn::prelude::*;
use checkpoint::{LossStatistics, TrainerState};

use crate::{
    GuardsRecipe, gradients,
    step::{PendingStep, Step},
};

/// Number of losses before spikes are detected.
const MIN_LOSSES: u64 = 64;

/// Approximate number of recent losses in the moving statistics.
const WINDOW: f64 = 128.0;

/// Where the guards check a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GuardMode {
    /// On the host, before each update, with the statistics of all earlier steps: the loop waits for the loss of each
    /// step.
    OnHost,
    /// On the device, with the statistics up to the last line of metrics: the loop queues steps without waiting until
    /// it reads all their losses.
    OnDevice,
}

impl GuardMode {
    /// A GPU idles while the host reads a loss and queues the next step; a CPU has no such gap.
    pub(crate) fn best(device: &Device) -> Self {
        if kernels::has_fused_operations(device) { Self::OnHost } else { Self::OnDevice }
    }
}

/// Why a step is skipped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SkipReason {
    NotFinite,
    /// The loss is far above the recent losses.
    Spike {
        /// In standard deviations above their mean.
        z_score: f64,
    },
}

/// The loss above which a step counts as a spike; `None` before [`MIN_LOSSES`] losses.
pub(crate) fn spike_limit(losses: &LossStatistics, guards: &GuardsRecipe) -> Option<f32> {
    let deviation = losses.variance.sqrt();
    let settled = losses.count >= MIN_LOSSES && deviation > 0.0;
    #[expect(clippy::cast_possible_truncation, reason = "losses are f32")]
    guards.spike_z_score.filter(|_| settled).map(|z_score| (losses.mean + z_score * deviation) as f32)
}

/// Checks a step against the spike limit of `state` and updates the statistics. An error means that the step is
/// skipped.
pub(crate) fn check_step(state: &mut TrainerState, loss: f64, grad_norm: f64) -> Result<(), SkipReason> {
    let verdict = if !loss.is_finite() || !grad_norm.is_finite() {
        Err(SkipReason::NotFinite)
    } else {
        let LossStatistics { mean, variance, .. } = state.losses;
        record_loss(&mut state.losses, loss);
        match state.spike_limit {
            Some(limit) if loss > f64::from(limit) => {
                Err(SkipReason::Spike { z_score: (loss - mean) / variance.sqrt() })
            }
            _ => Ok(()),
        }
    };
    state.skipped_steps += u64::from(verdict.is_err());
    state.not_finite_in_a_row =
        if verdict == Err(SkipReason::NotFinite) { state.not_finite_in_a_row + 1 } else { 0 };
    verdict
}

/// Whether [`check_step`] accepts a step, for a rank without its own statistics.
pub(crate) fn is_usable(step: Step, spike_limit: Option<f32>) -> bool {
    let is_below = spike_limit.is_none_or(|limit| step.loss <= f64::from(limit));
    step.loss.is_finite() && step.grad_norm.is_finite() && is_below
}

/// [`check_step`] on the device. Returns the clip scale of the gradient, `[1]`, or NaN if the step is skipped.
pub(crate) fn check_step_on_device(
    step: &PendingStep,
    spike_limit: Option<f32>,
    grad_clip: Option<f64>,
) -> Tensor<1> {
    let PendingStep { loss, grad_norm } = step.clone();
    // Finite if both are.
    let mut unusable = (loss.clone() + grad_norm.clone()).is_finite().bool_not();
    if let Some(limit) = spike_limit {
        unusable = unusable.bool_or(loss.greater_elem(limit));
    }
    gradients::clip_scale_on_device(grad_norm, grad_clip).mask_fill(unusable, f32::NAN)
}

/// Adds a loss to the statistics: plain mean and variance at first, then exponential moving ones. Losses of spikes
/// count too, so a permanently higher level is accepted after a few steps.
fn record_loss(losses: &mut LossStatistics, loss: f64) {
    losses.count += 1;
    let share = (1.0 / losses.count as f64).max(1.0 / WINDOW);
    let distance = loss - losses.mean;
    losses.mean += share * distance;
    losses.variance = (1.0 - share) * (losses.variance + share * distance * distance);
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "the values in tests are small")]
mod tests {
    use super::*;

    /// Checks the next step on the host and on the device, which must agree.
    fn check_step(
        state: &mut TrainerState,
        guards: &GuardsRecipe,
        loss: f64,
        grad_norm: f64,
    ) -> Result<(), SkipReason> {
        state.spike_limit = spike_limit(&state.losses, guards);
        let scalar = |x: f64| Tensor::from_floats([x as f32], &kernels::testing::test_device());
        let step = PendingStep { loss: scalar(loss), grad_norm: scalar(grad_norm) };
        let factor: f32 = check_step_on_device(&step, state.spike_limit, Some(0.5)).into_scalar();
        let verdict = super::check_step(state, loss, grad_norm);
        match verdict {
            Ok(()) => assert!((factor - gradients::clip_scale(grad_norm, Some(0.5))).abs() < 1e-6),
            Err(_) => assert!(factor.is_nan(), "{factor} for a loss of {loss}"),
        }
        verdict
    }

    const GUARDS: GuardsRecipe = GuardsRecipe { spike_z_score: Some(6.0), ..GuardsRecipe::DEFAULT };

    /// The state after many losses between 1.9 and 2.1.
    fn settled() -> TrainerState {
        let mut state = TrainerState::default();
        for step in 0..200 {
            check_step(&mut state, &GUARDS, 1.9 + 0.2 * f64::from(step % 11) / 10.0, 1.0).unwrap();
        }
        state
    }

    #[test]
    fn statistics_start_as_plain_mean_and_variance() {
        let mut losses = LossStatistics::default();
        for loss in [1.0, 2.0, 6.0] {
            record_loss(&mut losses, loss);
        }
        assert!((losses.mean - 3.0).abs() < 1e-12);
        assert!((losses.variance - 14.0 / 3.0).abs() < 1e-12, "{losses:?}");
    }

    #[test]
    fn non_finite_steps_are_counted_until_a_good_step() {
        let mut state = TrainerState::default();
        for (loss, grad_norm) in [(f64::NAN, 1.0), (f64::INFINITY, 1.0), (2.0, f64::NAN)] {
            assert_eq!(check_step(&mut state, &GUARDS, loss, grad_norm), Err(SkipReason::NotFinite));
        }
        assert_eq!((state.skipped_steps, state.not_finite_in_a_row), (3, 3));
        assert_eq!(state.losses.count, 0, "NaN is not part of the statistics");
        check_step(&mut state, &GUARDS, 2.0, 1.0).unwrap();
        assert_eq!((state.skipped_steps, state.not_finite_in_a_row), (3, 0));
    }

    #[test]
    fn a_spike_is_skipped_and_a_new_level_accepted() {
        let mut state = settled();
        assert!(check_step(&mut state, &GUARDS, 2.1, 1.0).is_ok());
        assert!(
            matches!(check_step(&mut state, &GUARDS, 4.0, 1.0), Err(SkipReason::Spike { z_score }) if z_score > 6.0)
        );
        assert_eq!(state.not_finite_in_a_row, 0);
        let skipped = (0..100).filter(|_| check_step(&mut state, &GUARDS, 4.0, 1.0).is_err()).count();
        assert!(skipped < 10, "{skipped} steps before the new level is accepted");
        assert!(check_step(&mut state, &GUARDS, 0.5, 1.0).is_ok(), "a low loss is not a spike");
    }

    #[test]
    fn spikes_are_not_detected_early_or_when_disabled() {
        let mut early = TrainerState::default();
        check_step(&mut early, &GUARDS, 2.0, 1.0).unwrap();
        check_step(&mut early, &GUARDS, 2.1, 1.0).unwrap();
        assert!(check_step(&mut early, &GUARDS, 50.0, 1.0).is_ok());
        let disabled = GuardsRecipe { spike_z_score: None, ..GUARDS };
        assert!(check_step(&mut settled(), &disabled, 50.0, 1.0).is_ok());
    }
}
