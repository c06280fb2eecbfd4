//! Samples: the observer is given the model to generate text with.

use crate::{active_run::ActiveRun, event::Event};

/// Gives the model to the observer if a sample is due after the step, or asked for, or the run ends. In a run that is being
/// stopped before its evaluation, the sample stays pending too.
pub(crate) fn sample_if_due(run: &mut ActiveRun) {
    let step = run.state.step;
    let every = run.recipe.schedule.sample_interval;
    let is_due = step > 0 && every.is_some_and(|every| step.is_multiple_of(every.get()));
    let is_asked = run.control.take_sample();
    let last = run.ending().is_some();
    if !run.state.evaluation_pending && (is_due || last || is_asked) {
        run.report.event(Event::Sample { step, model: &run.learner.gpt(), last });
    }
}
