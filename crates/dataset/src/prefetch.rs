//! Builds batches ahead of time, on a separate thread.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use crate::{Batch, BatchIndex, Samples};

/// Capacity of the queue. Two batches hide the time to build one; more would only use memory.
const QUEUE_LEN: usize = 2;

/// An iterator over prefetched batches. Dropping it stops the thread.
#[derive(Debug)]
pub struct Prefetch {
    batches: Option<Receiver<Batch>>,
    thread: Option<JoinHandle<()>>,
}

impl Prefetch {
    /// The endless batches of a run from `first_step`, with `grad_accumulation` batches per step.
    ///
    /// # Panics
    ///
    /// If `grad_accumulation` is zero.
    pub fn new(samples: impl Into<Samples>, first_step: u64, grad_accumulation: u64) -> Self {
        assert!(grad_accumulation > 0, "a step accumulates at least one batch");
        let mut samples = samples.into();
        let indices = (first_step..).flat_map(move |step| {
            (0..grad_accumulation).map(move |micro_batch| BatchIndex { step, micro_batch })
        });
        Self::of(indices.map(move |index| samples.batch(index)))
    }

    /// Prefetches the batches of an iterator.
    pub fn of(all: impl Iterator<Item = Batch> + Send + 'static) -> Self {
        let (sender, batches) = sync_channel(QUEUE_LEN);
        let thread = thread::spawn(move || {
            for batch in all {
                if sender.send(batch).is_err() {
                    return; // The receiver was dropped.
                }
            }
        });
        Self { batches: Some(batches), thread: Some(thread) }
    }
}

impl Iterator for Prefetch {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        self.batches.as_ref()?.recv().ok()
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        drop(self.batches.take()); // Wakes a thread that waits for space in the queue.
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was already printed and has ended the iterator.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{RngStream, Tokens, Windows};

    fn windows() -> (Arc<Tokens>, Windows) {
        let tokens = Arc::new(Tokens::from_vec((0..500).collect()));
        let windows = Windows::new(tokens.clone(), 6, 3, 7, RngStream::Train).unwrap();
        (tokens, windows)
    }

    #[test]
    fn prefetched_batches_equal_those_built_directly() {
        let (_, windows) = windows();
        let prefetched: Vec<_> = Prefetch::new(windows.clone(), 10, 2).take(6).collect();
        let direct: Vec<_> = [(10, 0), (10, 1), (11, 0), (11, 1), (12, 0), (12, 1)]
            .map(|(step, micro_batch)| windows.batch(BatchIndex { step, micro_batch }))
            .to_vec();
        assert_eq!(prefetched, direct);
    }

    #[test]
    fn dropping_stops_the_thread() {
        let (tokens, windows) = windows();
        let mut unused = Prefetch::new(windows.clone(), 0, 1);
        let mut used = Prefetch::new(windows, 0, 1);
        assert!(used.next().is_some());
        assert!(unused.batches.is_some());
        drop(used);
        unused.batches = None;
        assert!(unused.next().is_none());
        drop(unused);
        // Each thread held the tokens through its windows.
        assert_eq!(Arc::strong_count(&tokens), 1);
    }
}
