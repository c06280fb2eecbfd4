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

mod active_run;
mod batches;
mod bench;
mod control;
mod cost;
mod due;
mod error;
mod evaluation;
mod event;
mod experiments;
#[cfg(test)]
mod golden;
mod gradients;
mod guard;
mod guarded_step;
mod learner;
mod memory;
mod metrics;
mod optimizer;
mod order;
mod probe;
mod process_group;
mod recipe;
mod records;
mod replicas;
mod report;
mod sampling;
mod saving;
mod schedule;
mod setup;
mod step;
mod stopwatch;
mod train;
mod trainable_gpt;
mod training_line;
mod validation;
mod writer;

pub use active_run::Training;
pub use bench::time_steps;
pub use control::Control;
pub use cost::{Cost, sizes, vocab_size};
pub use error::Error;
pub use event::{Ending, Event, Observer, Outcome, ending};
pub use experiments::{
    Overfit, SWEEP_RATES, SWEEP_STEPS, SuggestedRate, Sweep, overfit_one_batch, sweep_learning_rates,
};
pub use guard::SkipReason;
pub use memory::{Fit, MachineMemory, estimate_memory};
pub use metrics::{Metrics, Split, best_evaluation, read_metrics};
pub use probe::Probed;
pub use recipe::{
    Changes, DataRecipe, EvaluationSize, GuardsRecipe, KeepWeights, OptimizerKind, OptimizerRecipe, PRESETS,
    Recipe, RecipeError, Restart, RunRecipe, ScheduleKind, ScheduleRecipe, preset,
};
pub use schedule::Schedule;
pub use setup::{
    HeldRun, KeptWeights, NewRun, Origin, PlannedRun, RecipeRequest, ResumePlan, ResumeRequest, SetupError,
    StoppedRun, checksums, parse_recipe, prepare_data, prepare_same_data,
};
pub use train::train;
