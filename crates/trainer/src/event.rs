//! Events of a run, and how it ended.

use std::num::NonZeroU64;

use checkpoint::TrainerState;
use model::Gpt;

use crate::{Control, Metrics, PreferenceFigures, Recipe, SkipReason};

/// The callback that receives a run's events.
pub type Observer = Box<dyn FnMut(Event<'_>) + Send>;

/// An event of a run. `step` is the number of steps done.
#[derive(Debug)]
pub enum Event<'a> {
    /// A session starts, after `step` steps of earlier sessions.
    Started { step: u64, max_steps: u64 },
    /// The log-probabilities of the pairs by the initial model are about to be computed, which may take minutes.
    Reference { n_pairs: usize },
    /// A step is done.
    Step { step: u64 },
    /// The time of the session's first step, which compiles kernels on a GPU, and of later ones. It comes with the
    /// first line of training metrics, unless each step has one.
    FirstStep { seconds: f64, usual_seconds: f64 },
    /// A line of metrics was added to `metrics.jsonl`.
    Metrics(&'a Metrics),
    /// A step was skipped: it did not change the weights.
    Skipped {
        step: u64,
        reason: SkipReason,
        /// In nats per token.
        loss: f64,
    },
    /// An evaluation is done, and its line of metrics reported.
    Evaluated {
        step: u64,
        /// On a device that does not record gradients.
        model: &'a Gpt,
        /// Of preference tuning.
        preferences: Option<PreferenceFigures>,
        /// To stop work on the evaluation early.
        control: &'a Control,
    },
    /// A sample is due.
    Sample {
        step: u64,
        /// On a device that does not record gradients.
        model: &'a Gpt,
        /// Whether the run ends after this step.
        last: bool,
    },
    /// A checkpoint of this step is on disk. Training may be some steps ahead.
    Saved {
        step: u64,
        /// Whether [`Control::save`](crate::Control::save) requested it.
        asked: bool,
    },
}

/// The result of a run without errors.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The final state, as in the last checkpoint.
    pub state: TrainerState,
    pub ending: Ending,
}

/// Why a run ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Finished,
    /// The validation loss did not improve in `guards.patience` evaluations.
    StoppedEarly,
    /// It was stopped by [`Control::stop`](crate::Control::stop) and can be resumed.
    Interrupted,
}

/// Why a run with this recipe and state has ended; `None` if it has steps left.
pub fn ending(recipe: &Recipe, state: &TrainerState) -> Option<Ending> {
    let out_of_patience = |patience: NonZeroU64| state.evaluations_since_best >= patience.get();
    if state.evaluation_pending {
        None
    } else if state.step >= recipe.schedule.max_steps {
        Some(Ending::Finished)
    } else {
        recipe.guards.patience.is_some_and(out_of_patience).then_some(Ending::StoppedEarly)
    }
}
