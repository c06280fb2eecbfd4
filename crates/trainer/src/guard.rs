//! Steps whose update would do harm.

use burn::prelude::*;
use checkpoint::{LossStatistics, TrainerState};

use crate::{GuardsRecipe, gradients, step::PendingStep};

/// Losses seen before one can be called a spike.
const ENOUGH: u64 = 64;

/// About how many of the last losses a spike is compared with.
const HORIZON: f64 = 128.0;

/// When it is decided whether a step may change the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judging {
    /// Before it does, by the steps before it: the loop waits for the loss of each step.
    AtOnce,
    /// On the device, by the steps up to the last line of metrics: the loop runs ahead of the device until it reads the losses
    /// of all steps since.
    OnDevice,
}

impl Judging {
    /// A GPU stands still while its results are read and the next step is not there yet. A CPU is itself what waits.
    pub(crate) fn best(device: &Device) -> Self {
        if kernels::has_fused_operations(device) { Self::AtOnce } else { Self::OnDevice }
    }
}

/// Why a step is skipped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SkipReason {
    /// The loss or the gradient is not finite.
    NotFinite,
    /// The loss is so many standard deviations above the ones before it.
    Spike {
        /// How many.
        z_score: f64,
    },
}

/// The loss above which a step is a spike, by the losses so far; none until enough have been seen.
pub(crate) fn spike_limit(losses: &LossStatistics, guards: &GuardsRecipe) -> Option<f32> {
    let deviation = losses.variance.sqrt();
    let settled = losses.count >= ENOUGH && deviation > 0.0;
    #[expect(clippy::cast_possible_truncation, reason = "losses are f32")]
    guards.spike_z_score.filter(|_| settled).map(|z_score| (losses.mean + z_score * deviation) as f32)
}

/// Decides whether a step may change the weights, by the limit that its state has, and takes note of it.
pub(crate) fn judge(state: &mut TrainerState, loss: f64, grad_norm: f64) -> Result<(), SkipReason> {
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

/// The same where the step is: what its gradient is multiplied with, `[1]`, NaN if it may not change the weights.
pub(crate) fn judge_on_device(
    found: &PendingStep,
    spike_limit: Option<f32>,
    grad_clip: Option<f64>,
) -> Tensor<1> {
    let PendingStep { loss, grad_norm } = found.clone();
    let mut unusable = loss.clone().is_finite().bool_and(grad_norm.clone().is_finite()).bool_not();
    if let Some(limit) = spike_limit {
        unusable = unusable.bool_or(loss.greater_elem(limit));
    }
    gradients::clip_scale_on_device(grad_norm, grad_clip).mask_fill(unusable, f32::NAN)
}

/// Adds a loss to the statistics: the plain mean and variance at first, later those of a window that fades out. Losses
/// of spikes count as well, so that a level which has risen for good is accepted after a few steps.
fn record_loss(losses: &mut LossStatistics, loss: f64) {
    losses.count += 1;
    let share = (1.0 / losses.count as f64).max(1.0 / HORIZON);
    let distance = loss - losses.mean;
    losses.mean += share * distance;
    losses.variance = (1.0 - share) * (losses.variance + share * distance * distance);
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "the numbers of tests are small")]
mod tests {
    use super::*;

    /// The judgement of the next step, here and where the step is.
    fn judge(
        state: &mut TrainerState,
        guards: &GuardsRecipe,
        loss: f64,
        grad_norm: f64,
    ) -> Result<(), SkipReason> {
        state.spike_limit = spike_limit(&state.losses, guards);
        let scalar = |x: f64| Tensor::from_floats([x as f32], &kernels::testing::test_device());
        let found = PendingStep { loss: scalar(loss), grad_norm: scalar(grad_norm) };
        let factor: f32 = judge_on_device(&found, state.spike_limit, Some(0.5)).into_scalar();
        let verdict = super::judge(state, loss, grad_norm);
        match verdict {
            Ok(()) => assert!((factor - gradients::clip_scale(grad_norm, Some(0.5))).abs() < 1e-6),
            Err(_) => assert!(factor.is_nan(), "{factor} for a loss of {loss}"),
        }
        verdict
    }

    const GUARDS: GuardsRecipe = GuardsRecipe { spike_z_score: Some(6.0), ..GuardsRecipe::DEFAULT };

    /// After many losses between 1.9 and 2.1.
    fn settled() -> TrainerState {
        let mut state = TrainerState::default();
        for step in 0..200 {
            judge(&mut state, &GUARDS, 1.9 + 0.2 * f64::from(step % 11) / 10.0, 1.0).unwrap();
        }
        state
    }

    #[test]
    fn statistics_are_mean_and_variance_while_few() {
        let mut losses = LossStatistics::default();
        for loss in [1.0, 2.0, 6.0] {
            record_loss(&mut losses, loss);
        }
        assert!((losses.mean - 3.0).abs() < 1e-12);
        assert!((losses.variance - 14.0 / 3.0).abs() < 1e-12, "{losses:?}");
    }

    #[test]
    fn what_is_not_finite_is_counted_until_a_good_step() {
        let mut state = TrainerState::default();
        for (loss, grad_norm) in [(f64::NAN, 1.0), (f64::INFINITY, 1.0), (2.0, f64::NAN)] {
            assert_eq!(judge(&mut state, &GUARDS, loss, grad_norm), Err(SkipReason::NotFinite));
        }
        assert_eq!((state.skipped_steps, state.not_finite_in_a_row), (3, 3));
        assert_eq!(state.losses.count, 0, "no NaN gets into the statistics");
        judge(&mut state, &GUARDS, 2.0, 1.0).unwrap();
        assert_eq!((state.skipped_steps, state.not_finite_in_a_row), (3, 0));
    }

    #[test]
    fn a_spike_is_skipped_and_a_new_level_accepted() {
        let mut state = settled();
        assert!(judge(&mut state, &GUARDS, 2.1, 1.0).is_ok());
        assert!(
            matches!(judge(&mut state, &GUARDS, 4.0, 1.0), Err(SkipReason::Spike { z_score }) if z_score > 6.0)
        );
        assert_eq!(state.not_finite_in_a_row, 0);
        let skipped = (0..100).filter(|_| judge(&mut state, &GUARDS, 4.0, 1.0).is_err()).count();
        assert!(skipped < 10, "{skipped} steps before the new level is accepted");
        assert!(judge(&mut state, &GUARDS, 0.5, 1.0).is_ok(), "a low loss is no spike");
    }

    #[test]
    fn no_spike_is_seen_early_or_unasked() {
        let mut early = TrainerState::default();
        judge(&mut early, &GUARDS, 2.0, 1.0).unwrap();
        judge(&mut early, &GUARDS, 2.1, 1.0).unwrap();
        assert!(judge(&mut early, &GUARDS, 50.0, 1.0).is_ok());
        let unasked = GuardsRecipe { spike_z_score: None, ..GUARDS };
        assert!(judge(&mut settled(), &unasked, 50.0, 1.0).is_ok());
    }
}
