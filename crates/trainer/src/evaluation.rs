//! Evaluations: the validation loss, and the best weights.

use ranks::Phase;

use crate::{
    Error, Event, KeepWeights, active_run::ActiveRun, guarded_step::read_steps, metrics::Metrics,
    validation::Measured,
};

/// Measures the validation loss, and saves the weights if it is the lowest so far. If the run is being stopped, the
/// evaluation stays pending.
///
/// # Errors
///
/// If the loss is not finite, metrics can't be written, or another rank has failed.
pub(crate) fn evaluate(run: &mut ActiveRun) -> Result<(), Error> {
    read_steps(run)?;
    let gpt = run.learner.gpt();
    run.group.progress(run.state.step, Phase::Evaluating);
    let measured = run.validation.measure(&gpt, &run.control)?;
    let Some(Measured { loss, preferences }) = measured else {
        run.agreed.stop(); // Another rank may have been asked.
        return Ok(());
    };
    let line = Metrics::of_validation(&run.state, loss);
    run.report.metrics(&match preferences {
        Some(figures) => line.with_preferences(figures),
        None => line,
    })?;
    if !loss.is_finite() {
        return Err(run.diverged(loss, f64::NAN));
    }
    let state = &mut run.state;
    if state.best_loss.is_none_or(|best| loss < best) {
        if run.recipe.run.keep_weights == KeepWeights::Best {
            run.writer.weights(gpt.clone());
        }
        state.best_loss = Some(loss);
        state.best_step = state.step;
        state.evaluations_since_best = 0;
    } else {
        state.evaluations_since_best += 1;
    }
    state.evaluation_pending = false;
    // After the weights: the answers to validation questions take a while.
    let step = run.state.step;
    run.report.event(Event::Evaluated { step, model: &gpt, preferences, control: &run.control });
    Ok(())
}
