//! Logs training metrics.

use std::mem;

use crate::{Error, active_run::ActiveRun, event::Event, metrics::Metrics, stopwatch::Stopwatch};

/// Writes a line of metrics for the steps since the last line.
///
/// # Errors
///
/// If the line can't be written.
pub(crate) fn log_training_metrics(run: &mut ActiveRun, stopwatch: &Stopwatch) -> Result<(), Error> {
    let usual_seconds = stopwatch.seconds_per_step();
    if let Some(first) = stopwatch.first_step() {
        run.report.event(Event::FirstStep { seconds: first.as_secs_f64(), usual_seconds });
    }
    let interval = mem::take(&mut run.state.interval);
    let speed = run.recipe.tokens_per_step() as f64 / usual_seconds;
    let (learning_rate, grad_norm) = (run.learner.learning_rate(), run.grad_norm);
    let line = Metrics::of_training(&run.state, interval, learning_rate, grad_norm, speed);
    let waiting_share = (run.rank.size > 1).then(|| stopwatch.waiting_share());
    let line = Metrics { waiting_share, ..line };
    run.report.metrics(&if run.recipe.dpo.is_some() { line.of_pairs() } else { line })
}
