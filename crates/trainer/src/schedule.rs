//! The learning-rate schedule: a pure function of the step.

use std::{f64::consts::PI, sync::Arc};

use burn::optim::lr_scheduler::{LrScheduler, LrSchedulerRecord};

use crate::{OptimizerRecipe, Restart, ScheduleKind, ScheduleRecipe};

/// Linear warm-up, then a cosine decay, a constant phase with linear decay, or a constant rate.
///
/// The cosine decay is nanoGPT's, from [SGDR](https://arxiv.org/abs/1608.03983) without restarts.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    pub kind: ScheduleKind,
    /// The step at which the decay of [`ScheduleKind::Wsd`] begins.
    pub stable_steps: u64,
    /// The maximum.
    pub learning_rate: f64,
    /// The minimum.
    pub min_learning_rate: f64,
    /// Steps before the maximum is reached.
    pub warmup_steps: u64,
    /// The step at which the minimum is reached.
    pub decay_steps: u64,
    /// Where a resumed run changed to this curve.
    pub restart: Option<Restart>,
    /// Steps after `restart` in which the rate rises to the curve.
    pub ramp_steps: u64,
}

impl Schedule {
    /// The schedule of a recipe.
    pub fn new(optimizer: &OptimizerRecipe, schedule: &ScheduleRecipe) -> Self {
        let ramp_steps = |restart: Restart| {
            schedule.warmup_steps.min(schedule.max_steps.saturating_sub(restart.step) / 10)
        };
        Self {
            kind: schedule.kind,
            stable_steps: schedule.stable_steps.unwrap_or_default(),
            learning_rate: optimizer.learning_rate,
            min_learning_rate: optimizer.min_learning_rate,
            warmup_steps: schedule.warmup_steps,
            decay_steps: schedule.decay_end(),
            restart: schedule.restart,
            ramp_steps: schedule.restart.map_or(0, ramp_steps),
        }
    }

    /// The learning rate of a step, from 0.
    pub fn at(&self, step: u64) -> f64 {
        let rate = self.curve(step);
        match self.restart {
            Some(restart) if (restart.step..restart.step + self.ramp_steps).contains(&step) => {
                let share = (step - restart.step + 1) as f64 / (self.ramp_steps + 1) as f64;
                // Only a higher rate is reached gradually; a lower one takes effect immediately.
                rate.min(restart.learning_rate + share * (rate - restart.learning_rate))
            }
            _ => rate,
        }
    }

    /// The rate that the previous step was taken with, possibly by another recipe.
    pub(crate) fn rate_before(&self, step: u64) -> f64 {
        match self.restart {
            Some(restart) if restart.step == step => restart.learning_rate,
            _ => self.at(step.saturating_sub(1)),
        }
    }

    /// The rate without a restart.
    fn curve(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.learning_rate * (step + 1) as f64 / (self.warmup_steps + 1) as f64;
        }
        let begin = match self.kind {
            ScheduleKind::Constant => return self.learning_rate,
            ScheduleKind::Cosine => self.warmup_steps,
            ScheduleKind::Wsd => self.warmup_steps.max(self.stable_steps),
        };
        if step >= self.decay_steps {
            return self.min_learning_rate;
        }
        if step < begin {
            return self.learning_rate;
        }
        let progress = (step - begin) as f64 / (self.decay_steps - begin) as f64;
        let share = match self.kind {
            ScheduleKind::Cosine => 0.5 * (1.0 + (PI * progress).cos()),
            _ => 1.0 - progress,
        };
        self.min_learning_rate + share * (self.learning_rate - self.min_learning_rate)
    }
}

/// Maps a step to its learning rate.
pub(crate) type Rate = Arc<dyn Fn(u64) -> f64 + Send + Sync>;

/// A schedule with a current position, as Burn's learner requires.
#[derive(Clone)]
pub(crate) struct SchedulePosition {
    rate: Rate,
    /// The step of the next call.
    next_step: u64,
}

impl SchedulePosition {
    /// `step` is the next step.
    pub(crate) fn new(rate: Rate, step: u64) -> Self {
        Self { rate, next_step: step }
    }
}

impl LrScheduler for SchedulePosition {
    fn step(&mut self) -> f64 {
        let rate = (self.rate)(self.next_step);
        self.next_step += 1;
        rate
    }

    /// Empty: the step is stored in `TrainerState`.
    fn to_record(&self) -> LrSchedulerRecord {
        LrSchedulerRecord::new()
    }

    fn load_record(&mut self, _empty: LrSchedulerRecord) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule = Schedule {
        kind: ScheduleKind::Cosine,
        stable_steps: 0,
        learning_rate: 1.0,
        min_learning_rate: 0.1,
        warmup_steps: 4,
        decay_steps: 14,
        restart: None,
        ramp_steps: 0,
    };

    #[test]
    fn the_cosine_schedule_rises_decays_and_stays_at_the_minimum() {
        let rates: Vec<f64> = (0..20).map(|step| SCHEDULE.at(step)).collect();
        for (step, expected) in [(0, 0.2), (3, 0.8), (4, 1.0), (9, 0.55), (14, 0.1), (19, 0.1)] {
            assert!((rates[step] - expected).abs() < 1e-12, "step {step}: {} is not {expected}", rates[step]);
        }
        assert!(rates[..5].is_sorted_by(|a, b| a < b), "warm-up rises");
        assert!(rates[4..15].is_sorted_by(|a, b| a > b), "the cosine falls");
    }

    #[test]
    fn wsd_stays_constant_and_then_decays_linearly() {
        let wsd = Schedule { kind: ScheduleKind::Wsd, stable_steps: 8, decay_steps: 14, ..SCHEDULE };
        for (step, expected) in [(3, 0.8), (4, 1.0), (8, 1.0), (10, 0.7), (11, 0.55), (14, 0.1), (30, 0.1)] {
            assert!((wsd.at(step) - expected).abs() < 1e-12, "step {step}: {}", wsd.at(step));
        }
        // The decay never begins before the warm-up ends.
        let early = Schedule { stable_steps: 0, ..wsd };
        assert_eq!(early.at(4), 1.0);
        assert!(early.at(5) < 1.0);
        let constant = Schedule { kind: ScheduleKind::Constant, ..SCHEDULE };
        assert_eq!([2, 4, 14, 1_000_000].map(|step| constant.at(step)), [0.6, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn with_zero_decay_steps_the_rate_is_the_minimum() {
        let constant = Schedule { warmup_steps: 0, decay_steps: 0, min_learning_rate: 3e-5, ..SCHEDULE };
        assert_eq!(constant.at(0), 3e-5);
        assert_eq!(constant.at(1000), 3e-5);
    }

    #[test]
    fn a_restart_rises_linearly_to_the_curve() {
        let restart = Some(Restart { step: 20, learning_rate: 0.0 });
        let constant = Schedule { kind: ScheduleKind::Constant, restart, ramp_steps: 3, ..SCHEDULE };
        assert_eq!([19, 20, 21, 22, 23].map(|step| constant.at(step)), [1.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!([19, 20, 21].map(|step| constant.rate_before(step)), [1.0, 0.0, 0.25]);
        let without_ramp = Schedule { ramp_steps: 0, ..constant };
        assert_eq!(without_ramp.at(20), 1.0);
    }

    #[test]
    fn a_position_advances_from_its_step() {
        let mut resumed = SchedulePosition::new(Arc::new(|step| SCHEDULE.at(step)), 2);
        assert_eq!([resumed.step(), resumed.step()], [2, 3].map(|step| SCHEDULE.at(step)));
    }
}
