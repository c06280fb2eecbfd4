//! The training loop.

use std::time::Instant;

use checkpoint::TrainerState;
use ranks::Phase;

use crate::{
    Control, Error,
    active_run::{ActiveRun, Training},
    due::Due,
    evaluation::evaluate,
    event::{Ending, Event, Observer, Outcome},
    guarded_step::{read_steps, take_step},
    sampling::sample_if_due,
    saving::{report_saved, save, save_and_wait},
    stopwatch::Stopwatch,
    synchronisation::synchronise_if_due,
    training_metrics::log_training_metrics,
};

/// Trains to the last step of the recipe, or until `control` requests a stop. Then the current step is finished and
/// saved.
///
/// # Errors
///
/// If a split is shorter than a block, the batch can't be divided equally among the devices, or a file can't be
/// written. If the loss diverges, or another device fails.
pub fn train(training: Training, control: Control, observer: Observer) -> Result<Outcome, Error> {
    let Some(mut run) = ActiveRun::begin(training, control, observer)? else {
        return Ok(Outcome { state: TrainerState::default(), ending: Ending::Interrupted });
    };
    let ended = steps(&mut run);
    run.finish(ended)
}

/// The training loop.
fn steps(run: &mut ActiveRun) -> Result<Ending, Error> {
    let schedule = run.recipe.schedule.clone();
    let step = run.state.step;
    run.report.event(Event::Started { step, max_steps: schedule.max_steps });
    // A new run saves its first checkpoint before any slow work, so that it can always be resumed.
    let mut saved_step = Some(if run.is_resumed { step } else { save_and_wait(run)? });
    if run.state.evaluation_pending {
        evaluate(run)?;
        sample_if_due(run);
        saved_step = None;
    }

    let mut stopwatch = Stopwatch::start();
    while run.ending().is_none() && !(run.agreed.should_stop() && run.is_synchronised()) {
        run.group.progress(run.state.step, Phase::Training);
        stopwatch.wait(take_step(run)?);
        stopwatch.wait(synchronise_if_due(run)?);
        stopwatch.step(|| drop(run.device.sync()));
        let step = run.state.step;
        let due = Due::after(step, &schedule);
        if due.metrics {
            read_steps(run)?;
        }
        run.update_clock();
        run.report.event(Event::Step { step });
        if due.metrics {
            log_training_metrics(run, &stopwatch)?;
            stopwatch.restart();
        }

        let pause = Instant::now();
        run.state.evaluation_pending = due.evaluation;
        if due.evaluation {
            evaluate(run)?;
        }
        // Between synchronisations, each rank has other weights: requests wait.
        if run.is_synchronised() {
            sample_if_due(run);
        }
        // Saving is last: a checkpoint must not claim unfinished work of its step.
        let is_requested = run.is_synchronised() && run.agreed.take_save() && !run.has_just_saved(step);
        if due.checkpoint || is_requested {
            saved_step = Some(save(run)?);
        }
        run.asked.extend(is_requested.then_some(step));
        stopwatch.pause(pause.elapsed());
        report_saved(run)?;
    }

    run.update_clock();
    if saved_step != Some(run.state.step) {
        save(run)?;
    }
    Ok(run.ending().unwrap_or(Ending::Interrupted))
}
