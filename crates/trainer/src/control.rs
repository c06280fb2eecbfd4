//! What can be asked of a run from outside, while it runs.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Asks things of a run. Clones ask the same run; any thread may.
#[derive(Clone, Default)]
pub struct Control {
    stop: Arc<AtomicBool>,
    save: Arc<AtomicBool>,
    sample: Arc<AtomicBool>,
}

impl Control {
    /// Has asked nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Finish the step in hand, save, and end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Save a checkpoint after the step in hand, and continue.
    pub fn save(&self) {
        self.save.store(true, Ordering::Relaxed);
    }

    /// Generate a sample after the step in hand, and continue.
    pub fn sample(&self) {
        self.sample.store(true, Ordering::Relaxed);
    }

    pub(crate) fn should_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether a checkpoint was asked for since the last call.
    pub(crate) fn take_save(&self) -> bool {
        self.save.swap(false, Ordering::Relaxed)
    }

    /// Whether a sample was asked for since the last call.
    pub(crate) fn take_sample(&self) -> bool {
        self.sample.swap(false, Ordering::Relaxed)
    }
}
