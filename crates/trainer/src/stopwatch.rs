//! Measures the duration of steps.

use std::time::{Duration, Instant};

/// The training time since the last line of metrics, without pauses such as evaluations.
///
/// The first step of a session is measured separately: on a GPU it compiles and tunes kernels, and takes as long as
/// many others. It is excluded from the speed if other steps follow before the line.
pub(crate) struct Stopwatch {
    started: Instant,
    paused: Duration,
    waited: Duration,
    n_steps: u64,
    first_step: FirstStep,
}

/// The state of the session's first step.
enum FirstStep {
    Pending,
    /// Done since the last line, in this time.
    Timed(Duration),
    /// Done before the last line.
    Reported,
}

impl Stopwatch {
    /// Starts at the beginning of a session.
    pub(crate) fn start() -> Self {
        let (paused, waited) = (Duration::ZERO, Duration::ZERO);
        Self { started: Instant::now(), paused, waited, n_steps: 0, first_step: FirstStep::Pending }
    }

    /// Counts a finished step. After the first, calls `wait` to synchronise with the device.
    pub(crate) fn step(&mut self, wait: impl FnOnce()) {
        self.n_steps += 1;
        if let FirstStep::Pending = self.first_step {
            wait();
            self.first_step = FirstStep::Timed(self.training());
        }
    }

    /// Excludes time that was not spent on training.
    pub(crate) fn pause(&mut self, pause: Duration) {
        self.paused += pause;
    }

    /// Adds time in which a step waited for other ranks.
    pub(crate) fn wait(&mut self, waited: Duration) {
        self.waited += waited;
    }

    /// The share of the time of all steps that they waited for other ranks, from 0 to 1.
    pub(crate) fn waiting_share(&self) -> f64 {
        self.waited.as_secs_f64() / self.training().as_secs_f64()
    }

    /// Mean time of a step, in seconds. Excludes the first step of the session unless it was the only one.
    pub(crate) fn seconds_per_step(&self) -> f64 {
        let (time, n_steps) = match self.first_step() {
            Some(first) => (self.training().saturating_sub(first), self.n_steps - 1),
            None => (self.training(), self.n_steps),
        };
        time.as_secs_f64() / n_steps as f64
    }

    /// Time of the session's first step, if others have followed since the last line.
    pub(crate) fn first_step(&self) -> Option<Duration> {
        match self.first_step {
            FirstStep::Timed(first) if self.n_steps > 1 => Some(first),
            _ => None,
        }
    }

    /// Restarts the measurement after a line of metrics.
    pub(crate) fn restart(&mut self) {
        *self = Self { first_step: FirstStep::Reported, ..Self::start() };
    }

    fn training(&self) -> Duration {
        self.started.elapsed().saturating_sub(self.paused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Simulates that time has passed.
    fn pass(stopwatch: &mut Stopwatch, time: Duration) {
        stopwatch.started -= time;
    }

    fn assert_takes(stopwatch: &Stopwatch, seconds: f64) {
        let per_step = stopwatch.seconds_per_step();
        assert!((per_step - seconds).abs() < 0.5, "{per_step} and not {seconds}"); // The test itself takes time.
    }

    #[test]
    fn the_first_step_of_a_session_is_excluded_if_others_follow() {
        let mut stopwatch = Stopwatch::start();
        pass(&mut stopwatch, 90 * SECOND);
        let mut waited = 0;
        stopwatch.step(|| waited += 1);
        assert_takes(&stopwatch, 90.0);
        assert_eq!(stopwatch.first_step(), None);

        for _ in 0..3 {
            pass(&mut stopwatch, 5 * SECOND);
            stopwatch.step(|| waited += 1);
        }
        assert_eq!(waited, 1);
        assert_takes(&stopwatch, 5.0);
        assert_eq!(stopwatch.first_step().unwrap().as_secs(), 90);

        stopwatch.restart();
        pass(&mut stopwatch, 6 * SECOND);
        stopwatch.step(|| waited += 1);
        assert_takes(&stopwatch, 6.0);
        assert_eq!((waited, stopwatch.first_step()), (1, None));
    }

    #[test]
    fn waiting_is_a_share_of_the_training_time() {
        let mut stopwatch = Stopwatch::start();
        pass(&mut stopwatch, 100 * SECOND);
        stopwatch.pause(60 * SECOND);
        stopwatch.wait(4 * SECOND);
        stopwatch.wait(6 * SECOND);
        assert!((stopwatch.waiting_share() - 0.25).abs() < 0.01, "{}", stopwatch.waiting_share());
        stopwatch.restart();
        assert_eq!(stopwatch.waiting_share(), 0.0);
    }

    #[test]
    fn pauses_are_excluded() {
        let mut stopwatch = Stopwatch::start();
        for _ in 0..4 {
            pass(&mut stopwatch, 50 * SECOND);
            stopwatch.step(|| ());
            stopwatch.pause(40 * SECOND);
        }
        // The last pause has not passed on the simulated clock yet.
        pass(&mut stopwatch, 40 * SECOND);
        assert_takes(&stopwatch, (4.0 * 50.0 + 40.0 - 4.0 * 40.0 - 50.0) / 3.0);
    }
}
