//! Where a run is shown: as lines, or as a live view.

use journal::words::{count, duration};
use std::time::{Duration, Instant};

use trainer::{Metrics, Split};

/// Shows a run as it happens. What is said beside comes by [`console::report`].
pub trait Screen: Send {
    /// It begins, after so many steps.
    fn started(&mut self, step: u64, max_steps: u64);

    /// A step is done.
    fn step(&mut self, step: u64);

    /// Something was measured.
    fn measured(&mut self, metrics: &Metrics);

    /// The model has written something.
    fn sampled(&mut self, step: u64, text: &str);
}

/// How far a session has got, and how fast.
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

    /// Time since the session began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Time to the last step, in words, if it goes on as in this session. Before its first step nobody knows.
    pub(crate) fn left(&self) -> String {
        let done = self.step.saturating_sub(self.first);
        if done == 0 {
            return "-".to_owned();
        }
        let share = self.max_steps.saturating_sub(self.step) as f64 / done as f64;
        duration(self.elapsed().mul_f64(share))
    }
}

/// What an evaluation found, with the training metrics of the same step, if there are any.
pub(crate) fn evaluation_line(metrics: &Metrics, last_train: Option<&Metrics>, max_steps: u64) -> String {
    let train = last_train.filter(|train| train.step == metrics.step);
    let train = train.map_or_else(String::new, |train| {
        format!("  training {}  {} tokens/s", loss_of(train), speed_of(train))
    });
    format!("step {:>6}/{max_steps}  validation loss {}{train}", metrics.step, loss_of(metrics))
}

/// What training metrics say.
pub(crate) fn training_line(metrics: &Metrics, pace: &Pace) -> String {
    format!(
        "step {:>6}/{}  loss {}  learning rate {:.2e}  {} tokens/s  {} left",
        metrics.step,
        pace.max_steps,
        loss_of(metrics),
        metrics.learning_rate.unwrap_or_default(),
        speed_of(metrics),
        pace.left()
    )
}

/// What stands above a sample.
pub(crate) fn sample_heading(step: u64) -> String {
    format!("--- what it writes after step {step} ---")
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

/// The training metrics, where that is what they are.
pub(crate) fn as_training(metrics: &Metrics) -> Option<&Metrics> {
    (metrics.split == Split::Train).then_some(metrics)
}
