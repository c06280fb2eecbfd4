//! A step of the loop: compute the gradient, check it with the guards, update the weights.

use std::{mem, time::Duration};

use crate::{
    Error,
    active_run::ActiveRun,
    event::Event,
    gradients::clip_scale,
    guard::{GuardMode, check_step, check_step_on_device, spike_limit},
    optimizer_command::Scale,
    step::{PendingStep, Step, gradient},
};

/// Takes one optimizer step, or skips its update if the guards reject it. Returns how long this rank had to wait for others.
///
/// # Errors
///
/// If another rank has failed, or too many steps in a row were not finite.
pub(crate) fn take_step(run: &mut ActiveRun) -> Result<Duration, Error> {
    let index = run.state.step;
    run.state.step += 1;
    run.state.tokens += run.recipe.tokens_per_step();
    let (limit, clip) = (run.state.spike_limit, run.recipe.optimizer.grad_clip);
    run.replicas.step(index, limit)?;
    let ActiveRun { learner, batches, recipe, device, rank, .. } = run;
    let requests = run.control.take_requests();
    let gradient = gradient(learner, batches, recipe, index, device, (rank, requests))?;
    run.agreed.request(gradient.requests);
    match run.guard_mode {
        GuardMode::OnHost => {
            let step = gradient.read();
            let is_usable = record_step(run, run.state.step, step);
            let scale =
                if is_usable { Scale::Known(clip_scale(step.grad_norm, clip)) } else { Scale::Skipped };
            let waited = gradient.apply(&mut run.learner, scale, &run.rank)?;
            run.state.spike_limit = spike_limit(&run.state.losses, &run.recipe.guards);
            check_finite(run, step)?;
            Ok(waited)
        }
        GuardMode::OnDevice => {
            let scale = check_step_on_device(&gradient.pending, limit, clip);
            run.pending.push(gradient.pending.clone());
            gradient.apply(&mut run.learner, Scale::on_device(scale), &run.rank)
        }
    }
}

/// Reads the steps that the device has checked since the last call, if any.
///
/// # Errors
///
/// If too many in a row were not finite.
pub(crate) fn read_steps(run: &mut ActiveRun) -> Result<(), Error> {
    let steps = PendingStep::read(mem::take(&mut run.pending));
    let first = run.state.step + 1 - steps.len() as u64;
    for (number, step) in (first..).zip(steps) {
        record_step(run, number, step);
        check_finite(run, step)?;
    }
    // The limit changes at these steps only, although other steps may be read too: a resumed run must have the same
    // limits.
    if run.state.step.is_multiple_of(run.recipe.schedule.log_interval.get()) {
        run.state.spike_limit = spike_limit(&run.state.losses, &run.recipe.guards);
    }
    Ok(())
}

/// Adds a step to the state. Returns whether it may change the weights.
fn record_step(run: &mut ActiveRun, number: u64, step: Step) -> bool {
    run.grad_norm = step.grad_norm;
    match check_step(&mut run.state, step.loss, step.grad_norm) {
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

/// Returns an error if too many steps in a row were not finite.
fn check_finite(run: &ActiveRun, step: Step) -> Result<(), Error> {
    if run.state.not_finite_in_a_row > run.recipe.guards.max_not_finite {
        return Err(run.diverged(step.loss, step.grad_norm));
    }
    Ok(())
}
