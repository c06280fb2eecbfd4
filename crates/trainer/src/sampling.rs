//! Samples: passes the model to the observer, which generates text with it.

use ranks::Phase;

use crate::{active_run::ActiveRun, event::Event};

/// Passes the model to the observer if a sample is due or requested, or the run ends. If the run is being stopped
/// before its evaluation, the sample stays pending too.
pub(crate) fn sample_if_due(run: &mut ActiveRun) {
    let step = run.state.step;
    let every = run.recipe.schedule.sample_interval;
    let is_due = step > 0 && every.is_some_and(|every| step.is_multiple_of(every.get()));
    let is_requested = run.agreed.take_sample();
    let last = run.ending().is_some();
    if !run.state.evaluation_pending && (is_due || last || is_requested) {
        run.group.progress(step, Phase::Sampling);
        run.report.event(Event::Sample { step, model: &run.learner.gpt(), last });
    }
}
