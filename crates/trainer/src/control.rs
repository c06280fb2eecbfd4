//! Requests to a run in progress: stop, save, sample.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

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

    /// Whether a checkpoint was requested since the last call.
    pub(crate) fn take_save(&self) -> bool {
        self.save.swap(false, Ordering::Relaxed)
    }

    /// Whether a sample was requested since the last call.
    pub(crate) fn take_sample(&self) -> bool {
        self.sample.swap(false, Ordering::Relaxed)
    }
}
