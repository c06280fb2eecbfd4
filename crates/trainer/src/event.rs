//! What a run tells whoever started it.

use std::num::NonZeroU64;

use checkpoint::TrainerState;
use model::Gpt;

use crate::{Metrics, Recipe, SkipReason};

/// Who is told what happens.
pub type Observer = Box<dyn FnMut(Event<'_>) + Send>;

/// What happens in a run, as it happens.
#[derive(Debug)]
pub enum Event<'a> {
    /// It begins, after `step` steps of earlier sessions.
    Started {
        /// Steps done.
        step: u64,
        /// Steps there will be.
        max_steps: u64,
    },
    /// A step is done.
    Step {
        /// Steps done.
        step: u64,
    },
    /// Enough steps are done to tell the first of a session apart from the usual: on a GPU it compiles kernels. Comes with
    /// the first line of training metrics, unless each step has one.
    FirstStep {
        /// What it took.
        seconds: f64,
        /// What those after it take.
        usual_seconds: f64,
    },
    /// Something was measured, and is in `metrics.jsonl`.
    Metrics(&'a Metrics),
    /// A step was skipped: it left the weights as they were.
    Skipped {
        /// Steps done, with this one.
        step: u64,
        /// Why.
        reason: SkipReason,
        /// Its loss, in nats per token.
        loss: f64,
    },
    /// It is time for a sample.
    Sample {
        /// Steps done.
        step: u64,
        /// The model, on a device that does not record gradients.
        model: &'a Gpt,
        /// Whether the run ends here.
        last: bool,
    },
    /// A checkpoint is on disk. It was made some steps before.
    Saved {
        /// Steps done when it was made.
        step: u64,
        /// Whether [`Control::save`](crate::Control::save) asked for it.
        asked: bool,
    },
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Where it stands; its last checkpoint says the same.
    pub state: TrainerState,
    /// Why it ended.
    pub ending: Ending,
}

/// Why a run ended, when nothing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All its steps are done.
    Finished,
    /// The loss did not get better for as many evaluations as `guards.patience` says.
    StoppedEarly,
    /// It was asked to stop, and can be resumed.
    Interrupted,
}

/// Whether a run of this recipe that stands there is over, and why.
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
