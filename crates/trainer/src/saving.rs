//! Sends checkpoints to the writer, and reports those on disk.

use ranks::Phase;

use crate::{
    Error, KeepWeights, active_run::ActiveRun, event::Event, gradients::weights_norm,
    guarded_step::read_steps,
};

/// Queues a checkpoint to be written in the background. Returns its step.
///
/// # Errors
///
/// If the weights are not finite; then nothing is written. If another rank has failed.
pub(crate) fn save(run: &mut ActiveRun) -> Result<u64, Error> {
    read_steps(run)?;
    run.group.progress(run.state.step, Phase::Saving);
    let gpt = run.learner.gpt();
    let norm: f32 = weights_norm(&gpt, &run.device.clone().inner()).into_scalar();
    if !norm.is_finite() {
        return Err(run.diverged(f64::NAN, f64::NAN));
    }
    if run.recipe.run.keep_weights == KeepWeights::Last {
        run.writer.weights(gpt);
    }
    let mut records = run.learner.snapshot();
    if let Some(shards) = &run.rank.shards {
        records.optimizer = shards.gather_optimizer(records.optimizer)?;
    }
    records.outer = run.local_steps.as_ref().map(|local| local.record(&run.learner));
    run.writer.checkpoint(records, run.state.clone());
    Ok(run.state.step)
}

/// Like [`save`], but waits until the checkpoint is on disk.
///
/// # Errors
///
/// As [`save`], or if the checkpoint can't be written.
pub(crate) fn save_and_wait(run: &mut ActiveRun) -> Result<u64, Error> {
    let step = save(run)?;
    if let Some(step) = run.writer.wait()? {
        run.report.event(Event::Saved { step, asked: false });
    }
    Ok(step)
}

/// Reports the checkpoints written since the last call.
///
/// # Errors
///
/// If a checkpoint can't be written.
pub(crate) fn report_saved(run: &mut ActiveRun) -> Result<(), Error> {
    for step in run.writer.saved()? {
        run.report.event(Event::Saved { step, asked: run.asked.contains(&step) });
    }
    Ok(())
}
