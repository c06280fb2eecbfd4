//! When metrics, evaluations and checkpoints are due.

use std::num::NonZeroU64;

use crate::ScheduleRecipe;

/// The tasks of the loop after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) metrics: bool,
    pub(crate) evaluation: bool,
    pub(crate) checkpoint: bool,
}

impl Due {
    /// The tasks due after `step` steps. After the last step, all are.
    pub(crate) fn after(step: u64, schedule: &ScheduleRecipe) -> Self {
        let is_multiple = |every: NonZeroU64| step.is_multiple_of(every.get());
        let is_last = step == schedule.max_steps;
        Self {
            metrics: is_last || is_multiple(schedule.log_interval),
            evaluation: is_last || is_multiple(schedule.eval_interval),
            checkpoint: is_last
                || is_multiple(schedule.checkpoint_interval)
                || schedule.keep_every.is_some_and(is_multiple),
        }
    }
}
