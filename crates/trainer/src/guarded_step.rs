//! A step of the loop: a gradient, judged by the guards, and the update by it.

use std::mem;

use crate::{
    Error,
    active_run::ActiveRun,
    event::Event,
    gradients::clip_scale,
    guard::{Judging, judge, judge_on_device, spike_limit},
    order::Scale,
    step::{PendingStep, Step, gradient},
};

/// Takes one optimizer step. One whose loss or gradient is unusable is skipped.
///
/// # Errors
///
/// If another device has stopped, or too many steps in a row were skipped.
pub(crate) fn take_step(run: &mut ActiveRun) -> Result<(), Error> {
    let index = run.state.step;
    run.state.step += 1;
    run.state.tokens += run.recipe.tokens_per_step();
    let (limit, clip) = (run.state.spike_limit, run.recipe.optimizer.grad_clip);
    run.replicas.step(index, limit)?;
    let ActiveRun { learner, batches, recipe, device, rank, .. } = run;
    let gradient = gradient(learner, batches, recipe, index, device, rank)?;
    match run.judging {
        Judging::AtOnce => {
            let step = gradient.read();
            let is_usable = record_step(run, run.state.step, step);
            let scale =
                if is_usable { Scale::Known(clip_scale(step.grad_norm, clip)) } else { Scale::Skipped };
            gradient.descend(&mut run.learner, scale);
            run.state.spike_limit = spike_limit(&run.state.losses, &run.recipe.guards);
            check_finite(run, step)
        }
        Judging::OnDevice => {
            let scale = judge_on_device(&gradient.found, limit, clip);
            run.pending.push(gradient.found.clone());
            gradient.descend(&mut run.learner, Scale::on_device(scale));
            Ok(())
        }
    }
}

/// Reads the steps that the device has judged since the last time, if any.
///
/// # Errors
///
/// If too many in a row were skipped.
pub(crate) fn read_steps(run: &mut ActiveRun) -> Result<(), Error> {
    let steps = PendingStep::read(mem::take(&mut run.pending));
    let first = run.state.step + 1 - steps.len() as u64;
    for (number, step) in (first..).zip(steps) {
        record_step(run, number, step);
        check_finite(run, step)?;
    }
    // At these steps and no others, whenever else somebody reads: a resumed run has the limits of one that was not stopped.
    if run.state.step.is_multiple_of(run.recipe.schedule.log_interval.get()) {
        run.state.spike_limit = spike_limit(&run.state.losses, &run.recipe.guards);
    }
    Ok(())
}

/// Adds a step to the state, and says whether it may change the weights.
fn record_step(run: &mut ActiveRun, number: u64, step: Step) -> bool {
    run.grad_norm = step.grad_norm;
    match judge(&mut run.state, step.loss, step.grad_norm) {
        Ok(()) => {
            run.state.interval.loss_sum += step.loss;
            run.state.interval.n_losses += 1;
            true
        }
        Err(reason) => {
            run.report.event(Event::Skipped { step: number, reason, loss: step.loss });
            false
        }
    }
}

/// Ends a run that has lost its way.
fn check_finite(run: &ActiveRun, step: Step) -> Result<(), Error> {
    if run.state.not_finite_in_a_row > run.recipe.guards.max_not_finite {
        return Err(run.diverged(step.loss, step.grad_norm));
    }
    Ok(())
}
