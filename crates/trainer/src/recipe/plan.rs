//! The plan of a run: the end of its learning-rate schedule, restarts on resume, and epochs.

use super::{
    error::RecipeError,
    sections::{Recipe, Restart, ScheduleKind, ScheduleRecipe},
};
use crate::Schedule;

impl ScheduleRecipe {
    /// The step at which the learning rate reaches its minimum.
    pub fn decay_end(&self) -> u64 {
        self.decay_steps.unwrap_or(self.max_steps)
    }
}

impl Recipe {
    /// This recipe for a run that has done `step` steps with the recipe `before`. If the learning rate would jump up,
    /// adds a [`Restart`] that ramps it up to the new curve; restarts after `step` are dropped.
    pub fn resumed_at(mut self, before: &Self, step: u64) -> Self {
        let restart = before.schedule.restart.filter(|restart| restart.step <= step);
        self.schedule.restart = self.schedule.restart.and(restart);
        let mut old = Schedule::new(&before.optimizer, &before.schedule);
        old.restart = restart;
        let new = Schedule::new(&self.optimizer, &self.schedule);
        let last = old.rate_before(step);
        if step > 0 && new.at(step) != old.at(step) && new.at(step) != last {
            self.schedule.restart = Some(Restart { step, learning_rate: last });
        }
        self
    }

    /// Checks that the learning rate is not 0 before the end, where steps would change nothing.
    ///
    /// # Errors
    ///
    /// If the rate is 0 before the last step.
    pub fn check_plan(&self) -> Result<(), RecipeError> {
        let ScheduleRecipe { kind, max_steps, warmup_steps, .. } = self.schedule;
        let first = self.schedule.decay_end().max(warmup_steps);
        let falls_to_zero = kind != ScheduleKind::Constant && self.optimizer.min_learning_rate == 0.0;
        if falls_to_zero && first < max_steps.saturating_sub(1) {
            return Err(RecipeError::ZeroRate { first, max_steps });
        }
        Ok(())
    }

    /// This recipe with another number of steps. A decay that lasted until the end lasts until the new end.
    pub fn with_max_steps(mut self, max_steps: u64) -> Self {
        if self.schedule.decay_steps == Some(self.schedule.max_steps) {
            self.schedule.decay_steps = None;
        }
        self.schedule.max_steps = max_steps;
        self
    }

    /// The epochs of the whole run over a text of `n_tokens`.
    pub fn epochs(&self, n_tokens: usize) -> f64 {
        self.tokens_per_step() as f64 * self.schedule.max_steps as f64 / n_tokens as f64
    }

    /// The steps for `epochs` over a text of `n_tokens`, at least one.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float beyond the range of u64 saturates, which is not a valid number of steps"
    )]
    pub fn steps_for(&self, epochs: f64, n_tokens: usize) -> u64 {
        (epochs * n_tokens as f64 / self.tokens_per_step() as f64).ceil().max(1.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;

    /// `tiny` with 60 steps; its learning rate decays to zero.
    fn tiny(overrides: &[&str]) -> Recipe {
        let sets = ["schedule.max_steps=60", "schedule.warmup_steps=5"];
        let overrides: Vec<String> = sets.iter().chain(overrides).map(|&set| set.to_owned()).collect();
        Recipe::parse(preset("tiny").unwrap(), &overrides).unwrap()
    }

    fn rate(recipe: &Recipe, step: u64) -> f64 {
        Schedule::new(&recipe.optimizer, &recipe.schedule).at(step)
    }

    #[test]
    fn a_longer_run_ramps_up_to_the_new_curve() {
        let (before, after) = (tiny(&[]), tiny(&["schedule.max_steps=120"]));
        let resumed = after.clone().resumed_at(&before, 60);
        assert_eq!(resumed.schedule.restart, Some(Restart { step: 60, learning_rate: rate(&before, 59) }));
        let new_curve = rate(&after, 65);
        assert!(rate(&before, 59) < 0.01 * new_curve);
        // Five steps of ramp: the warm-up is shorter than a tenth of the 60 steps left.
        let rates: Vec<f64> = (60..66).map(|step| rate(&resumed, step)).collect();
        assert!(rates.is_sorted_by(|a, b| a < b), "{rates:?}");
        assert!(rates[0] < 0.25 * new_curve, "{rates:?}");
        assert_eq!(rates[5], new_curve);
        for step in 65..120 {
            assert_eq!(rate(&resumed, step), rate(&after, step));
        }
        resumed.check_plan().unwrap();
    }

    #[test]
    fn a_lower_rate_takes_effect_immediately() {
        let (before, after) = (tiny(&[]), tiny(&["optimizer.learning_rate=1e-4"]));
        let resumed = after.clone().resumed_at(&before, 30);
        assert!(resumed.schedule.restart.is_some());
        for step in 30..60 {
            assert_eq!(rate(&resumed, step), rate(&after, step));
        }
    }

    #[test]
    fn only_the_last_restart_counts_and_later_ones_are_dropped() {
        let first = tiny(&["schedule.max_steps=120"]).resumed_at(&tiny(&[]), 60);
        let unchanged = first.clone().resumed_at(&first, 63);
        assert_eq!(unchanged, first, "resuming in the middle of the ramp changes nothing");
        let longer = |step| {
            let mut longer = first.clone();
            longer.schedule.max_steps = 240;
            longer.resumed_at(&first, step).schedule.restart.unwrap()
        };
        assert_eq!(longer(62), Restart { step: 62, learning_rate: rate(&first, 61) });
        // Changed twice at the same step: the last rate is the one before both changes.
        assert_eq!(longer(60), first.schedule.restart.unwrap());
        assert_eq!(first.clone().resumed_at(&first, 50).schedule.restart, None);
    }

    #[test]
    fn without_a_jump_there_is_no_restart() {
        let wsd = ["schedule.kind=wsd", "schedule.stable_steps=50"];
        let (before, after) = (tiny(&wsd), tiny(&[wsd[0], wsd[1], "schedule.max_steps=200"]));
        assert_eq!(after.clone().resumed_at(&before, 40).schedule.restart, None, "both are at their maximum");
        let constant = tiny(&["schedule.kind=constant", "schedule.max_steps=80"]);
        assert_eq!(constant.resumed_at(&before, 40).schedule.restart, None);
        let late = after.clone().resumed_at(&before, 59).schedule.restart.unwrap();
        assert_eq!(late.learning_rate, rate(&before, 58));
        // The start of the decay stays and its end moves.
        assert_eq!((rate(&after, 50), rate(&after, 125)), (6e-3, 3e-3));
        assert_eq!(after.resumed_at(&before, 0).schedule.restart, None, "no steps are done yet");
    }

    #[test]
    fn a_plan_with_a_learning_rate_of_zero_is_an_error() {
        let message = |overrides: &[&str]| tiny(overrides).check_plan().unwrap_err().to_string();
        let error = message(&["schedule.decay_steps=30"]);
        assert!(error.starts_with("the learning rate is 0 from step 30 of 60 on"), "{error}");
        assert!(error.contains("--set schedule.decay_steps=none"), "{error}");
        message(&["schedule.kind=wsd", "schedule.stable_steps=3", "schedule.decay_steps=58"]);
        for allowed in [
            &["schedule.decay_steps=59"][..], // Only the last step has a rate of 0.
            &["schedule.decay_steps=30", "optimizer.min_learning_rate=1e-9"],
            &["schedule.decay_steps=30", "schedule.kind=constant"],
            &["schedule.max_steps=0"],
        ] {
            tiny(allowed).check_plan().unwrap();
        }
    }

    #[test]
    fn with_max_steps_equals_the_override() {
        for sets in [&[][..], &["schedule.decay_steps=60"], &["schedule.decay_steps=30"]] {
            let longer = Recipe::parse(&tiny(sets).to_toml(), &["schedule.max_steps=90".to_owned()]).unwrap();
            assert_eq!(tiny(sets).with_max_steps(90), longer);
        }
    }

    #[test]
    fn epochs_and_steps_convert_into_each_other() {
        let recipe = tiny(&["optimizer.batch_size=10", "model.block_size=100"]);
        assert_eq!(recipe.epochs(6_000), 10.0);
        assert_eq!((recipe.steps_for(10.0, 6_000), recipe.steps_for(0.15, 10_000)), (60, 2));
        assert_eq!(recipe.steps_for(1e-9, 6_000), 1);
    }
}
