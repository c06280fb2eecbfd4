//! The interface of the two displays of a run, and the lines of text that both show.

use std::time::{Duration, Instant};

use journal::summary::{count, duration};
use trainer::{Metrics, Split};

/// Displays a run. Messages reach the display through [`console::report`].
pub trait Screen: Send {
    /// The session starts; `step` steps are already done.
    fn started(&mut self, step: u64, max_steps: u64);

    /// `step` steps are done.
    fn step(&mut self, step: u64);

    /// A line of training or validation metrics was logged.
    fn measured(&mut self, metrics: &Metrics);

    /// A sample was generated.
    fn sampled(&mut self, step: u64, text: &str);
}

/// The progress and speed of a session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    began: Instant,
    first: u64,
    pub(crate) step: u64,
    pub(crate) max_steps: u64,
}

impl Pace {
    pub(crate) fn start(step: u64, max_steps: u64) -> Self {
        Self { began: Instant::now(), first: step, step, max_steps }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The estimated time to the last step at the speed of this session; "-" before its first step.
    pub(crate) fn time_left(&self) -> String {
        let done = self.step.saturating_sub(self.first);
        if done == 0 {
            return "-".to_owned();
        }
        let share = self.max_steps.saturating_sub(self.step) as f64 / done as f64;
        duration(self.elapsed().mul_f64(share))
    }
}

/// The line for an evaluation, with the training metrics of the same step if there are any.
pub(crate) fn evaluation_line(metrics: &Metrics, last_train: Option<&Metrics>, max_steps: u64) -> String {
    let train = last_train.filter(|train| train.step == metrics.step);
    let train = train.map_or_else(String::new, |train| {
        format!("  training {}  {} tokens/s", loss_of(train), speed_of(train))
    });
    format!("step {:>6}/{max_steps}  validation loss {}{train}", metrics.step, loss_of(metrics))
}

/// The line for training metrics.
pub(crate) fn training_line(metrics: &Metrics, pace: &Pace) -> String {
    format!(
        "step {:>6}/{}  loss {}  learning rate {:.2e}  {} tokens/s  {} left",
        metrics.step,
        pace.max_steps,
        loss_of(metrics),
        metrics.learning_rate.unwrap_or_default(),
        speed_of(metrics),
        pace.time_left()
    )
}

/// The heading of a sample.
pub(crate) fn sample_heading(step: u64) -> String {
    format!("--- sample after step {step} ---")
}

pub(crate) fn loss_of(metrics: &Metrics) -> String {
    metrics.loss.map_or_else(|| "not finite".to_owned(), |loss| format!("{loss:.4}"))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a speed is positive and far below 2^64"
)]
pub(crate) fn speed_of(metrics: &Metrics) -> String {
    count(metrics.tokens_per_second.unwrap_or_default() as u64)
}

/// `metrics` if its split is training, else `None`.
pub(crate) fn as_training(metrics: &Metrics) -> Option<&Metrics> {
    (metrics.split == Split::Train).then_some(metrics)
}
