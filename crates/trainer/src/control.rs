//! Requests to a run in progress: stop, save, sample.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// The requests to one rank, which all ranks exchange to act on them after the same step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    pub(crate) stop: bool,
    pub(crate) save: bool,
    pub(crate) sample: bool,
}

impl Requests {
    /// The number of [flags](Self::to_flags).
    pub(crate) const N_FLAGS: usize = 3;

    /// 1 for each request, else 0.
    pub(crate) fn to_flags(self) -> [f32; Self::N_FLAGS] {
        [self.stop, self.save, self.sample].map(|is_requested| f32::from(u8::from(is_requested)))
    }

    /// The requests of any rank, from the mean of the flags.
    pub(crate) fn from_mean(flags: [f32; Self::N_FLAGS]) -> Self {
        let [stop, save, sample] = flags.map(|mean| mean > 0.0);
        Self { stop, save, sample }
    }
}

/// Sends requests to a run, from any thread. Clones control the same run.
#[derive(Debug, Clone, Default)]
pub struct Control {
    stop: Arc<AtomicBool>,
    save: Arc<AtomicBool>,
    sample: Arc<AtomicBool>,
}

impl Control {
    /// A control without requests.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests that the run finish the current step, save a checkpoint and end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Requests a checkpoint after the current step.
    pub fn save(&self) {
        self.save.store(true, Ordering::Relaxed);
    }

    /// Requests a sample after the current step.
    pub fn sample(&self) {
        self.sample.store(true, Ordering::Relaxed);
    }

    /// Whether a stop was requested.
    pub fn should_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Takes the requests since the last call; a stop stays requested.
    pub(crate) fn take_requests(&self) -> Requests {
        Requests { stop: self.should_stop(), save: self.take_save(), sample: self.take_sample() }
    }

    /// Adds requests.
    pub(crate) fn request(&self, Requests { stop, save, sample }: Requests) {
        for (flag, is_requested) in [(&self.stop, stop), (&self.save, save), (&self.sample, sample)] {
            flag.fetch_or(is_requested, Ordering::Relaxed);
        }
    }

    /// Whether a checkpoint was requested since the last call.
    pub(crate) fn take_save(&self) -> bool {
        self.save.swap(false, Ordering::Relaxed)
    }

    /// Whether a sample was requested since the last call.
    pub(crate) fn take_sample(&self) -> bool {
        self.sample.swap(false, Ordering::Relaxed)
    }
}
