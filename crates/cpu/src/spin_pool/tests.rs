use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::parallel;

/// Runs a region of `n` tasks, and checks that each ran once.
fn check_region(n: usize) {
    let runs: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
    parallel::each(n, |idx| {
        runs[idx].fetch_add(1, Ordering::Relaxed);
    });
    assert!(runs.iter().all(|runs| runs.load(Ordering::Relaxed) == 1), "{n} tasks: {runs:?}");
}

fn enter<T>(pool: &SpinPool, work: impl FnOnce() -> T) -> T {
    pool.try_enter(work).unwrap_or_else(|_| panic!("another thread has entered"))
}

/// Returns when `condition` holds. A hang would be a failure without a message.
fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "the condition does not hold after a minute");
        thread::yield_now();
    }
}

#[test]
fn each_task_runs_once() {
    for n_threads in [0, 1, 2, 3, 8] {
        let pool = SpinPool::new(n_threads);
        for _ in 0..50 {
            enter(&pool, || (0..40).for_each(check_region));
        }
    }
}

#[test]
fn writes_of_all_threads_are_seen_after_the_region() {
    let pool = SpinPool::new(3);
    enter(&pool, || {
        for round in 0..2000 {
            let values = parallel::fill(96, 1, parallel::WORTH_SHARING, |range, out| {
                out.iter_mut().zip(range).for_each(|(out, idx)| *out = (round + idx) as f32);
            });
            assert!(values.iter().enumerate().all(|(idx, value)| *value == (round + idx) as f32));
        }
    });
}

#[test]
fn a_region_inside_a_task_runs_on_its_thread() {
    let pool = SpinPool::new(3);
    enter(&pool, || {
        parallel::each(16, |_| {
            let thread = thread::current().id();
            parallel::each(4, |_| assert_eq!(thread::current().id(), thread));
            check_region(5);
        });
    });
    assert!(!is_inside());
}

#[test]
fn a_panic_of_a_task_reaches_the_caller() {
    let pool = SpinPool::new(3);
    for wrong in 0..12 {
        let panic = catch_unwind(AssertUnwindSafe(|| {
            enter(&pool, || {
                parallel::each(12, |idx| assert!(idx != wrong, "task {idx} fails"));
            });
        }));
        let message = *panic.unwrap_err().downcast::<String>().unwrap();
        assert_eq!(message, format!("task {wrong} fails"));
        assert!(!is_inside());
        enter(&pool, || check_region(12));
    }
}

#[test]
fn a_panic_outside_of_tasks_frees_the_pool() {
    let pool = SpinPool::new(2);
    let panic = catch_unwind(AssertUnwindSafe(|| enter(&pool, || panic!("no task"))));
    assert!(panic.is_err() && !is_inside());
    enter(&pool, || check_region(4));
}

#[test]
fn a_region_does_not_wait_for_threads_that_start_no_task() {
    let pool =
        SpinPool { shared: Arc::new(Shared::new(4)), workers: Vec::new(), pace: Mutex::new(Pace::new()) };
    enter(&pool, || (0..40).for_each(check_region));
}

#[test]
fn a_long_region_wakes_the_workers() {
    for _ in 0..20 {
        let pool = SpinPool::new(3);
        wait_until(|| pool.shared.has_started.n_asleep() == 2);
        let n_started = AtomicUsize::new(0);
        enter(&pool, || {
            // Each task waits for the others, so each needs a thread.
            parallel::each(3, |_| {
                n_started.fetch_add(1, Ordering::Relaxed);
                wait_until(|| n_started.load(Ordering::Relaxed) == 3);
            });
        });
    }
}

#[test]
fn idle_workers_sleep() {
    let pool = SpinPool::new(3);
    for _ in 0..3 {
        enter(&pool, || check_region(30));
        wait_until(|| pool.shared.has_started.n_asleep() == 2);
    }
}

#[test]
fn one_thread_enters_at_a_time() {
    let pool = SpinPool::new(2);
    enter(&pool, || {
        thread::scope(|scope| {
            let other = scope.spawn(|| pool.try_enter(|| unreachable!("two threads have entered")));
            assert!(other.join().unwrap().is_err());
        });
        check_region(4);
    });
}
