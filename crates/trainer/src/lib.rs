//! Trains a GPT, step by step, on burn-train's `Learner`.
//!
//! A step is one update of the weights, and everything counts steps: the schedule, evaluations,
//! checkpoints and logs. What a step sees and draws is a function of (seed, step), so a run that goes on
//! from a checkpoint is the run that would have been.
//!
//! ```
//! use trainer::{Recipe, preset};
//!
//! let text = preset("nanogpt-cpu").expect("it is a preset");
//! let recipe = Recipe::parse(text, &["schedule.max_steps=100".to_owned()])?;
//! assert_eq!(recipe.schedule.max_steps, 100);
//! assert_eq!(recipe.tokens_per_step(), 12 * 64);
//! # Ok::<(), trainer::RecipeError>(())
//! ```

mod batches;
mod bench;
mod control;
#[cfg(test)]
mod golden;
mod gradients;
mod guard;
mod memory;
mod metrics;
mod optimizer;
mod probe;
mod quiet;
mod recipe;
mod records;
mod replicas;
mod schedule;
mod step;
mod stopwatch;
mod strategy;
mod team;
mod train;
mod trainee;
mod writer;

pub use bench::time_steps;
pub use control::Control;
pub use guard::SkipReason;
pub use memory::estimate_memory;
pub use metrics::{Metrics, Split};
pub use probe::{Probe, Probed, probe};
pub use recipe::{
    Changes, DataRecipe, EvaluationSize, GuardsRecipe, KeepWeights, OptimizerKind, OptimizerRecipe, PRESETS,
    Recipe, RecipeError, Restart, RunRecipe, ScheduleKind, ScheduleRecipe, preset,
};
pub use records::checkpoint_model;
pub use schedule::Schedule;
pub use strategy::{Observer, ending};
pub use train::{Ending, Error, Event, Outcome, Training, train};
