//! The pools of compute threads.

use std::sync::OnceLock;

use crate::spin_pool::{self, SpinPool};

/// Runs `work` on a thread of rayon's pool and waits for it. Splitting work inside the pool costs a fraction of splitting
/// it outside, so a whole training step is one call.
pub fn on_pool<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| work())
}

/// Runs an inference step, whose parallel regions may take only microseconds: `work` runs on this thread, and its
/// regions on a pool of their own. If another thread uses that pool, or this is a thread of rayon's pool, regions run on
/// rayon's pool. Both pools have the same number of threads, and the results have the same bits.
pub fn on_spin_pool<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    static POOL: OnceLock<SpinPool> = OnceLock::new();
    if spin_pool::is_inside() || rayon::current_thread_index().is_some() {
        return work();
    }
    let pool = POOL.get_or_init(|| SpinPool::new(rayon::current_num_threads()));
    pool.try_enter(work).unwrap_or_else(on_pool)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::{SimdLevel, factor::Factor, linear, matrix::Matrix, parallel};

    /// Bits of products with one row and with many, which are shared by several threads.
    fn products() -> Vec<u32> {
        let (n_in, n_out) = (160, 700);
        let values: Vec<f32> = (0..n_in * n_out).map(|idx| (idx as f32).sin()).collect();
        let weight = Matrix::new(&values, n_out, n_in).transposed();
        let y = [1, 200].map(|n_rows| {
            let x = Matrix::new(&values[..n_rows * n_in], n_rows, n_in);
            linear::forward(SimdLevel::best(), x, &[Factor::Dense(weight)], &[])
        });
        y.concat().into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn work_runs_on_the_pool() {
        assert_eq!(rayon::current_thread_index(), None);
        let inside = on_pool(|| on_pool(rayon::current_thread_index));
        assert!(inside.is_some());
    }

    #[test]
    fn both_pools_compute_the_same_bits_whatever_else_runs() {
        let expected = on_pool(products);
        assert_eq!(on_pool(|| on_spin_pool(products)), expected);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        assert_eq!(on_spin_pool(|| on_spin_pool(products)), expected);
                    }
                });
            }
        });
    }

    #[test]
    fn a_step_inside_a_task_is_computed() {
        let expected = on_pool(products);
        on_spin_pool(|| parallel::each(3, |_| assert_eq!(on_spin_pool(products), expected)));
        on_pool(|| parallel::each(3, |_| assert_eq!(on_spin_pool(products), expected)));
    }
}
