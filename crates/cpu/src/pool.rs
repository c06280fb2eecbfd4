//! The pool of threads that computes.

/// Runs work on a thread of the pool, and waits for it. A thread of the pool hands parts of its work to the others at a
/// fraction of what it costs a thread outside, so a whole step of a model is one call.
pub fn on_pool<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| work())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_runs_on_the_pool() {
        assert_eq!(rayon::current_thread_index(), None);
        let inside = on_pool(|| on_pool(rayon::current_thread_index));
        assert!(inside.is_some());
    }
}
