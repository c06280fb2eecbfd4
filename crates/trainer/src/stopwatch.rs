//! How long steps take.

use std::time::{Duration, Instant};

/// The time since the last line of training metrics, but for what was not training.
///
/// The first step of a session is apart. On a GPU it compiles kernels and tries which are the fastest, and takes as long as
/// many others; so where others have followed, the speed is theirs.
pub(crate) struct Stopwatch {
    started: Instant,
    paused: Duration,
    n_steps: u64,
    first_step: FirstStep,
}

/// Where the first step of the session is.
enum FirstStep {
    /// It is still to come.
    Next,
    /// It was since the last line, and took so long.
    Here(Duration),
    /// A line has told of it.
    Past,
}

impl Stopwatch {
    /// For a session that begins.
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), paused: Duration::ZERO, n_steps: 0, first_step: FirstStep::Next }
    }

    /// A step is done. After the first, `wait` is called, which waits for the device.
    pub(crate) fn step(&mut self, wait: impl FnOnce()) {
        self.n_steps += 1;
        if let FirstStep::Next = self.first_step {
            wait();
            self.first_step = FirstStep::Here(self.training());
        }
    }

    /// So much time was not training.
    pub(crate) fn pause(&mut self, pause: Duration) {
        self.paused += pause;
    }

    /// Time for a step, in seconds: without the first of the session, unless that was the only one.
    pub(crate) fn seconds_per_step(&self) -> f64 {
        let (time, n_steps) = match self.first_step() {
            Some(first) => (self.training().saturating_sub(first), self.n_steps - 1),
            None => (self.training(), self.n_steps),
        };
        time.as_secs_f64() / n_steps as f64
    }

    /// Time of the first step of the session, where it was followed by others since the last line.
    pub(crate) fn first_step(&self) -> Option<Duration> {
        match self.first_step {
            FirstStep::Here(first) if self.n_steps > 1 => Some(first),
            _ => None,
        }
    }

    /// A line is written.
    pub(crate) fn restart(&mut self) {
        *self = Self { first_step: FirstStep::Past, ..Self::start() };
    }

    fn training(&self) -> Duration {
        self.started.elapsed().saturating_sub(self.paused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Has so much time gone by.
    fn pass(stopwatch: &mut Stopwatch, time: Duration) {
        stopwatch.started -= time;
    }

    fn assert_takes(stopwatch: &Stopwatch, seconds: f64) {
        let per_step = stopwatch.seconds_per_step();
        assert!((per_step - seconds).abs() < 0.5, "{per_step} and not {seconds}"); // The test itself takes time.
    }

    #[test]
    fn the_first_step_of_a_session_does_not_count_where_others_follow() {
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
    fn what_is_no_training_is_no_time_of_a_step() {
        let mut stopwatch = Stopwatch::start();
        for _ in 0..4 {
            pass(&mut stopwatch, 50 * SECOND);
            stopwatch.step(|| ());
            stopwatch.pause(40 * SECOND);
        }
        // The last pause is one that the clock has not been through.
        pass(&mut stopwatch, 40 * SECOND);
        assert_takes(&stopwatch, (4.0 * 50.0 + 40.0 - 4.0 * 40.0 - 50.0) / 3.0);
    }
}
