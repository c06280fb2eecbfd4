//! The pool of compute threads.

/// Runs `work` on a thread of the pool and waits for it. Splitting work inside the pool costs a fraction of splitting
/// it outside, so a whole model step is one call.
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
