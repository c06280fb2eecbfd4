//! A parallel region: its tasks, and the threads that claim them.

use std::{
    any::Any,
    cell::UnsafeCell,
    fmt,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use super::signal::{Padded, Signal, lock};

pub(super) type Task = dyn Fn(usize) + Sync;

/// The tasks of a parallel region.
#[derive(Clone, Copy)]
struct Region {
    n_tasks: usize,
    task: &'static Task,
}

/// The running region, if there is one, and the threads that wait for one.
pub(super) struct Shared {
    region: UnsafeCell<Region>,
    /// For each thread, the number of tasks in its share that nobody has claimed. It is 0 between regions, so a claim
    /// always belongs to the running region.
    unclaimed: Box<[Padded<AtomicUsize>]>,
    /// Number of tasks that have not ended.
    n_left: Padded<AtomicUsize>,
    /// Number of regions so far.
    n_regions: Padded<AtomicUsize>,
    is_closed: AtomicBool,
    pub(super) has_started: Signal,
    has_ended: Signal,
    /// The first panic of a task.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `region` is written between regions only, and read by threads that have claimed a task, which keeps the region
// running. Claims synchronise with the write. The task itself is `Sync`.
unsafe impl Sync for Shared {}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("n_threads", &self.unclaimed.len()).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(n_threads: usize) -> Self {
        Self {
            region: UnsafeCell::new(Region { n_tasks: 0, task: &|_| {} }),
            unclaimed: (0..n_threads).map(|_| Padded::default()).collect(),
            n_left: Padded::default(),
            n_regions: Padded::default(),
            is_closed: AtomicBool::new(false),
            has_started: Signal::default(),
            has_ended: Signal::default(),
            panic: Mutex::new(None),
        }
    }

    pub(super) fn n_threads(&self) -> usize {
        self.unclaimed.len()
    }

    /// The tasks of a thread's share.
    fn share(&self, thread: usize, n_tasks: usize) -> Range<usize> {
        let n_threads = self.unclaimed.len();
        thread * n_tasks / n_threads..(thread + 1) * n_tasks / n_threads
    }

    /// Starts a region.
    ///
    /// # Safety
    ///
    /// No other region runs, and the task is valid until [`Self::wait`] returns.
    pub(super) unsafe fn start(&self, n_tasks: usize, task: &'static Task) {
        // SAFETY: no region runs, so no thread reads it.
        unsafe { *self.region.get() = Region { n_tasks, task } };
        self.n_left.0.store(n_tasks, Ordering::Relaxed);
        for (thread, unclaimed) in self.unclaimed.iter().enumerate() {
            // With the lines above: who claims a task sees them.
            unclaimed.0.store(self.share(thread, n_tasks).len(), Ordering::Release);
        }
        self.n_regions.0.fetch_add(1, Ordering::SeqCst);
    }

    /// Runs the tasks of the own share, then those that other threads have not started. Returns their number. Calls
    /// `next` after each task, and does not unwind.
    pub(super) fn run_tasks(&self, own: usize, mut next: impl FnMut()) -> usize {
        let mut n_ended = 0;
        for thread in (own..self.unclaimed.len()).chain(0..own) {
            while let Some((task, idx)) = self.claim(thread) {
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| task(idx))) {
                    let mut first = lock(&self.panic);
                    if first.is_none() {
                        *first = Some(panic);
                    } else {
                        // Dropping it could panic, while other threads run the task.
                        std::mem::forget(panic);
                    }
                }
                n_ended += 1;
                next();
            }
        }
        if n_ended > 0 && self.n_left.0.fetch_sub(n_ended, Ordering::SeqCst) == n_ended {
            self.has_ended.wake_one();
        }
        n_ended
    }

    /// Claims the next task of a thread's share.
    fn claim(&self, thread: usize) -> Option<(&Task, usize)> {
        let unclaimed = &self.unclaimed[thread].0;
        let n = unclaimed.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1)).ok()?;
        // SAFETY: the region runs until the claimed task has ended, so nobody writes.
        let Region { n_tasks, task } = unsafe { *self.region.get() };
        Some((task, self.share(thread, n_tasks).end - n))
    }

    /// Waits for the tasks that other threads have started.
    pub(super) fn wait(&self) {
        self.has_ended.wait(|| self.n_left.0.load(Ordering::SeqCst) == 0);
    }

    /// The first panic of a task since the last call.
    pub(super) fn take_panic(&self) -> Option<Box<dyn Any + Send>> {
        lock(&self.panic).take()
    }

    /// Ends the workers.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.n_regions.0.fetch_add(1, Ordering::SeqCst);
        self.has_started.wake_all();
    }

    /// The life of a worker.
    pub(super) fn work(&self, own: usize) {
        let mut seen = 0;
        loop {
            let has_slept = self.has_started.wait(|| self.n_regions.0.load(Ordering::SeqCst) != seen);
            if has_slept && self.n_left.0.load(Ordering::SeqCst) > 0 {
                self.has_started.wake_one(); // The thread that has entered wakes the first one only.
            }
            seen = self.n_regions.0.load(Ordering::SeqCst);
            if self.is_closed.load(Ordering::SeqCst) {
                return;
            }
            self.run_tasks(own, || {});
        }
    }
}
