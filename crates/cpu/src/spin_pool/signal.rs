//! Waiting for other threads: spinning for microseconds, then sleeping.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Maximum time that a thread spins before it sleeps. Waking a thread takes the calling thread about as long.
pub(super) const SPIN: Duration = Duration::from_micros(20);

/// Spins between two looks at the clock.
const SPINS_PER_LOOK: usize = 16;

/// A value that shares no cache line with others.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Padded<T>(pub(super) T);

/// Threads that wait for a condition.
#[derive(Debug, Default)]
pub(super) struct Signal {
    n_asleep: Padded<AtomicUsize>,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Signal {
    /// Returns when `condition` holds: spins, then sleeps. Returns whether it slept. The condition reads atomics with
    /// `SeqCst`.
    pub(super) fn wait(&self, condition: impl Fn() -> bool) -> bool {
        let mut deadline = None;
        loop {
            for _ in 0..SPINS_PER_LOOK {
                if condition() {
                    return false;
                }
                std::hint::spin_loop();
            }
            let now = Instant::now();
            if now > *deadline.get_or_insert(now + SPIN) {
                break;
            }
        }
        let mut guard = lock(&self.lock);
        // After this, either the condition sees a change, or who makes the change sees this thread.
        self.n_asleep.0.fetch_add(1, Ordering::SeqCst);
        while !condition() {
            guard = self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.n_asleep.0.fetch_sub(1, Ordering::SeqCst);
        true
    }

    /// Number of sleeping threads.
    #[cfg(test)]
    pub(super) fn n_asleep(&self) -> usize {
        self.n_asleep.0.load(Ordering::SeqCst)
    }

    /// Whether a thread sleeps.
    pub(super) fn has_sleepers(&self) -> bool {
        self.n_asleep.0.load(Ordering::SeqCst) > 0
    }

    /// Wakes a sleeping thread, if there is one, after a change with `SeqCst`.
    pub(super) fn wake_one(&self) {
        if self.has_sleepers() {
            // A thread that holds the lock is about to sleep.
            drop(lock(&self.lock));
            self.changed.notify_one();
        }
    }

    /// Wakes all sleeping threads, after a change with `SeqCst`.
    pub(super) fn wake_all(&self) {
        drop(lock(&self.lock));
        self.changed.notify_all();
    }
}

/// Locks a mutex under which nothing panics.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
