//! Trains a GPT on burn-train's `Learner`.
//!
//! A step is one update of the weights. Schedule, evaluations, checkpoints and logs count steps. The data and random
//! numbers of a step depend only on (seed, step), so a resumed run equals an uninterrupted one.
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
mod agreement;
mod batches;
mod bench;
mod control;
mod cost;
mod counting;
mod due;
mod error;
mod evaluation;
mod event;
mod exchange;
mod experiments;
#[cfg(test)]
mod golden;
mod gradients;
mod guard;
mod guarded_step;
mod host_vectors;
mod learner;
mod local_steps;
mod memory;
mod metrics;
mod optimizer;
mod optimizer_command;
mod preference;
mod probe;
mod process_group;
mod recipe;
mod records;
mod reference;
mod replicas;
mod report;
mod sampling;
mod saving;
mod schedule;
mod setup;
mod shards;
mod step;
mod stopwatch;
mod synchronisation;
mod train;
mod trainable_gpt;
mod training_data;
mod training_metrics;
mod validation;
mod writer;

pub use active_run::Training;
pub use bench::{TogetherSteps, time_steps, time_steps_together};
pub use control::Control;
pub use cost::{Cost, roofline_sizes, vocab_size};
pub use error::Error;
pub use event::{Ending, Event, Observer, Outcome, ending};
pub use experiments::{
    Overfit, SWEEP_RATES, SWEEP_STEPS, SuggestedRate, Sweep, overfit_one_batch, sweep_learning_rates,
};
pub use guard::SkipReason;
pub use memory::{MachineMemory, MemoryFit, estimate_memory};
pub use metrics::{Metrics, Split, best_evaluation, read_metrics};
pub use preference::PreferenceFigures;
pub use probe::ProbeStep;
pub use recipe::{
    Changes, ChatRecipe, DataRecipe, DpoRecipe, EvaluationSize, GuardsRecipe, KeepWeights, LoraRecipe,
    OptimizerKind, OptimizerRecipe, PRESETS, Place, Recipe, RecipeError, RecipeProblem, RecipeSource,
    Restart, RunRecipe, ScheduleKind, ScheduleRecipe, preset,
};
pub use schedule::Schedule;
pub use setup::{
    BaseModel, CHAT_BLOCK, ChatFormat, ChatSummary, Chats, KeptWeights, LockedRun, NewRun, PAIR_BLOCK,
    PairSummary, PlannedRun, Preferences, RecipeRequest, ResumePlan, ResumeRequest, RowsRead, RunData,
    SetupError, StoppedRun, chat_preset, checksums, prepare_data, prepare_same_data,
};
pub use train::train;
pub use training_data::TrainingData;
