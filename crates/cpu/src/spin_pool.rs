//! A thread pool for parallel regions of microseconds, as in decoding.
//!
//! A decode step has several regions per layer, and rayon queues, wakes and steals for each of them. Here each thread has
//! a fixed share of the tasks. Threads spin between regions, at most for [`SPIN`], and then sleep.
//!
//! Other processes may occupy cores. So a region does not wait for threads that have started no task: a thread that has
//! finished its share helps the others. If a region still waits long, for a thread that lost its core inside a task, the
//! next regions run on the calling thread alone.

mod region;
mod signal;
#[cfg(test)]
mod tests;

use std::{
    cell::{Cell, RefCell},
    mem,
    panic::resume_unwind,
    ptr::NonNull,
    sync::{Arc, Mutex, MutexGuard, TryLockError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use region::{Shared, Task};
use signal::SPIN;

/// Elements touched by a region, from which on sleeping workers are woken at its start: about twice the time that waking
/// one takes. Shorter regions wake one when they have taken as long together.
const WORTH_WAKING: usize = 1 << 18;

/// Maximum time of work before a sleeping worker is woken, when woken workers have not helped.
const MAX_PATIENCE: Duration = Duration::from_millis(2);

/// Maximum wait for other threads at the end of a region of even tasks, in tasks. A thread that takes longer has lost its
/// core.
const MAX_WAIT: u32 = 4;

/// After a region that waited longer, regions run on one thread for this many times as long.
const REST: u32 = 3;

/// Where the parallel regions of a thread run.
#[derive(Debug, Clone, Copy)]
enum Regions {
    OnRayon,
    OnSpinPool(NonNull<Entered<'static>>),
    /// On the thread itself: it is inside a task.
    Inline,
}

thread_local! {
    static REGIONS: Cell<Regions> = const { Cell::new(Regions::OnRayon) };
}

/// Sets where the regions of this thread run, until it is dropped.
struct Switched {
    before: Regions,
}

impl Switched {
    fn to(regions: Regions) -> Self {
        Self { before: REGIONS.replace(regions) }
    }
}

impl Drop for Switched {
    fn drop(&mut self) {
        REGIONS.set(self.before);
    }
}

/// Whether this thread has entered a pool, or is inside a task of one.
pub(crate) fn is_inside() -> bool {
    !matches!(REGIONS.get(), Regions::OnRayon)
}

/// Calls `task` with each of `0..n` if [`is_inside`], and returns whether it did. If `n_elements` is known, the tasks take
/// about the same time and touch as many elements together.
pub(crate) fn each(n: usize, n_elements: Option<usize>, task: &(impl Fn(usize) + Sync)) -> bool {
    match REGIONS.get() {
        Regions::OnRayon => return false,
        // SAFETY: `try_enter` borrows it until the regions of this thread run elsewhere.
        Regions::OnSpinPool(entered) => unsafe { entered.as_ref() }.run(n, n_elements, task),
        Regions::Inline => (0..n).for_each(task),
    }
    true
}

/// Workers that help the thread that has entered.
#[derive(Debug)]
pub(crate) struct SpinPool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Locked by the thread that has entered.
    pace: Mutex<Pace>,
}

impl SpinPool {
    /// A pool of `n_threads` threads: the one that enters, and workers.
    pub(crate) fn new(n_threads: usize) -> Self {
        let shared = Arc::new(Shared::new(n_threads.max(1)));
        let spawn = |own: usize| {
            let shared = shared.clone();
            let life = move || {
                REGIONS.set(Regions::Inline);
                shared.work(own);
            };
            thread::Builder::new().name(format!("spin-pool-{own}")).spawn(life)
        };
        // Fewer workers leave more tasks to the others.
        let workers = (1..n_threads).map_while(|own| spawn(own).ok()).collect();
        Self { shared, workers, pace: Mutex::new(Pace::new()) }
    }

    /// Runs `work` on this thread, and its parallel regions on the pool. Returns `work` if another thread has entered.
    pub(crate) fn try_enter<T, F: FnOnce() -> T>(&self, work: F) -> Result<T, F> {
        let pace = match self.pace.try_lock() {
            Ok(pace) => pace,
            // A panic of `work` leaves a valid pace.
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(work),
        };
        let entered = Entered { shared: &self.shared, pace: RefCell::new(pace) };
        let _regions = Switched::to(Regions::OnSpinPool(NonNull::from(&entered).cast()));
        Ok(work())
    }
}

impl Drop for SpinPool {
    fn drop(&mut self) {
        self.shared.close();
        for worker in self.workers.drain(..) {
            // It catches the panics of its tasks.
            let _ = worker.join();
        }
    }
}

/// When sleeping workers are woken, and when they are left alone.
#[derive(Debug)]
struct Pace {
    /// Start of the current sequence of regions, with gaps of at most [`SPIN`], or the last wake-up in it.
    busy_since: Instant,
    last_end: Instant,
    /// Time of work before a sleeping worker is woken.
    patience: Duration,
    rests_until: Instant,
}

impl Pace {
    fn new() -> Self {
        let now = Instant::now();
        Self { busy_since: now, last_end: now, patience: SPIN, rests_until: now }
    }

    fn wake(&mut self, shared: &Shared) {
        shared.has_started.wake_one();
        self.busy_since = Instant::now();
        self.patience = (2 * self.patience).min(MAX_PATIENCE);
    }
}

/// The thread that has entered a pool.
#[derive(Debug)]
struct Entered<'a> {
    shared: &'a Shared,
    pace: RefCell<MutexGuard<'a, Pace>>,
}

impl Entered<'_> {
    /// Calls `task` with each of `0..n` on all threads. Continues the first panic of a task.
    fn run(&self, n: usize, n_elements: Option<usize>, task: &(dyn Fn(usize) + Sync)) {
        let (shared, mut pace) = (self.shared, self.pace.borrow_mut());
        let _regions = Switched::to(Regions::Inline);
        let start = Instant::now();
        if shared.n_threads() == 1 || start < pace.rests_until {
            return (0..n).for_each(task);
        }
        if start > pace.last_end + SPIN {
            pace.busy_since = start;
        }
        // SAFETY: only the lifetime changes. Nothing below unwinds before `wait`, which returns after the last call.
        let task = unsafe { mem::transmute::<&(dyn Fn(usize) + Sync), &'static Task>(task) };
        // SAFETY: the lock of `pace` excludes other threads, and this thread is not inside a task.
        unsafe { shared.start(n, task) };
        if n_elements.is_none_or(|n| n >= WORTH_WAKING) && shared.has_started.has_sleepers() {
            pace.wake(shared);
        }
        let n_own = shared.run_tasks(0, || {
            if shared.has_started.has_sleepers() && pace.busy_since.elapsed() > pace.patience {
                pace.wake(shared);
            }
        });
        let own_end = Instant::now();
        shared.wait();
        let end = Instant::now();
        if n_own < n {
            pace.patience = SPIN;
        }
        let (own, waited) = (own_end - start, end - own_end);
        if n_elements.is_some()
            && waited > SPIN + own * MAX_WAIT / u32::try_from(n_own).unwrap_or(u32::MAX).max(1)
        {
            pace.rests_until = end + REST * waited;
        }
        pace.last_end = end;
        if let Some(panic) = shared.take_panic() {
            resume_unwind(panic);
        }
    }
}
