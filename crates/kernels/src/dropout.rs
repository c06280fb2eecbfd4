//! Dropout.

use std::cell::Cell;

use burn::{
    backend::{Dispatch, TensorMetadata},
    prelude::*,
};
use cpu::dropout::Mask;

use crate::{
    device::{count_gpu_path, is_on_gpu},
    dropout_mask::{arange, drop_out, is_dropped},
    gpu::GpuOps,
};

thread_local! {
    static MASKS: Cell<u64> = const { Cell::new(0) };
    static FIRST_SEQUENCE: Cell<usize> = const { Cell::new(0) };
}

/// Sets the dropout seed of this thread. The same elements are dropped on every device.
///
/// A thread starts with a seed of 0.
pub fn seed_dropout(seed: u64) {
    MASKS.set(seed);
}

/// Runs `work` with a dropout seed, and with the index in the batch of the first sequence that it processes: ranks that
/// share a batch drop the elements that one rank would. Restores the thread's state, because a thread of a pool may run
/// `work` while it waits for other work.
pub fn with_dropout<T>(seed: u64, first_sequence: usize, work: impl FnOnce() -> T) -> T {
    let before = (MASKS.replace(seed), FIRST_SEQUENCE.replace(first_sequence));
    let result = work();
    MASKS.set(before.0);
    FIRST_SEQUENCE.set(before.1);
    result
}

/// The seed with which this thread's masks continue as they would now.
pub fn dropout_state() -> u64 {
    MASKS.get()
}

/// In training, zeroes each element with probability `probability` and scales the others so that the expectation is
/// unchanged ([Srivastava et al., 2014](https://jmlr.org/papers/v15/srivastava14a.html)).
///
/// Training means that `x` is on a device with autodiff. On other devices, and for a probability of zero, this is the
/// identity. [`seed_dropout`] makes it reproducible.
///
/// # Shapes
///
/// Any, with the sequences of a batch first; the output has the shape of `x`.
pub fn dropout<const D: usize>(x: Tensor<D>, probability: f64) -> Tensor<D> {
    let shape = x.dims();
    let n_columns = shape[D - 1];
    let n_rows = shape.iter().product::<usize>() / n_columns.max(1);
    let Some(mask) = mask(&x.device(), probability, n_rows / shape[0].max(1)) else { return x };
    if is_on_gpu(&x) {
        return dropout_on_gpu(x, mask);
    }
    let x = x.into_dispatch();
    let is_dropped = is_dropped::<Dispatch>(mask, arange::<Dispatch>(0..n_rows, &x.device()), n_columns);
    let is_dropped = Tensor::<2, Bool>::from_dispatch(is_dropped).reshape(shape);
    Tensor::from_dispatch(drop_out::<Dispatch>(x, is_dropped.into_dispatch(), mask))
}

/// [`dropout`] with a mask of its rows, with its own backward pass.
pub(crate) fn dropout_on_gpu<const D: usize>(x: Tensor<D>, mask: Mask) -> Tensor<D> {
    count_gpu_path();
    let shape = x.dims();
    let rows = x.reshape([-1, shape[D - 1].cast_signed()]);
    let y = <Dispatch as GpuOps>::drop_out(rows.into_dispatch(), mask);
    Tensor::<2>::from_dispatch(y).reshape(shape)
}

/// The next mask of this thread, with this number of rows for each sequence; `None` outside training.
pub(crate) fn mask(device: &Device, probability: f64, n_rows: usize) -> Option<Mask> {
    if probability == 0.0 || !device.is_autodiff() {
        return None;
    }
    let first_row = (FIRST_SEQUENCE.get() * n_rows) as u64;
    Mask::new(probability, next_seed()).map(|mask| Mask { first_row, ..mask })
}

/// SplitMix64 ([Steele et al., 2014](https://doi.org/10.1145/2714064.2660195)).
fn next_seed() -> u64 {
    let state = MASKS.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    MASKS.set(state);
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "values in tests are small")]
mod tests {
    use super::*;
    use crate::testing::test_device;

    const PROBABILITY: f64 = 0.25;
    const N: usize = 10_000;

    #[test]
    fn drops_and_scales_while_training() {
        let device = test_device().autodiff();
        seed_dropout(3);
        let kept: Vec<f32> =
            dropout(Tensor::<1>::ones([N], &device), PROBABILITY).into_data().try_into_vec().unwrap();

        let scaled = 1.0 / (1.0 - PROBABILITY as f32);
        assert!(kept.iter().all(|&x| x == 0.0 || (x - scaled).abs() < 1e-6));

        // A binomial count within five standard deviations: fails for one seed in two million.
        let n_dropped = kept.iter().filter(|&&x| x == 0.0).count() as f64;
        let deviation = (N as f64 * PROBABILITY * (1.0 - PROBABILITY)).sqrt();
        assert!((n_dropped - N as f64 * PROBABILITY).abs() < 5.0 * deviation, "{n_dropped} dropped");
    }

    #[test]
    fn the_seed_determines_the_dropped_elements() {
        let device = test_device().autodiff();
        let dropped = || dropout(Tensor::<1>::ones([100], &device), 0.5).into_data();
        let [one, same, other] = [1, 1, 2].map(|seed| {
            seed_dropout(seed);
            [dropped(), dropped()]
        });
        assert_eq!(one, same);
        assert_ne!(one, other);
        assert_ne!(one[0], one[1], "both masks are the same");
    }

    #[test]
    fn parts_of_a_batch_drop_the_elements_of_the_whole() {
        let device = test_device().autodiff();
        let [batch, heads, time, n_columns] = [4, 3, 5, 7];
        let dropped = |first: usize, n: usize| -> Vec<f32> {
            let x = Tensor::<4>::ones([n, heads, time, n_columns], &device);
            let both = with_dropout(9, first, || [dropout(x.clone(), 0.5), dropout(x, 0.5)]);
            both.map(|x| x.into_data().try_into_vec::<f32>().unwrap()).concat()
        };
        let whole = dropped(0, batch);
        let (first, second) = whole.split_at(whole.len() / 2);
        for start in 0..batch {
            let range = start * heads * time * n_columns..(start + 1) * heads * time * n_columns;
            assert_eq!(dropped(start, 1), [&first[range.clone()], &second[range]].concat(), "{start}");
        }
        assert_ne!(dropped(0, 1), dropped(1, 1));

        seed_dropout(4);
        dropped(1, 1);
        assert_eq!((dropout_state(), FIRST_SEQUENCE.get()), (4, 0), "the state is restored");
    }

    #[test]
    fn is_the_identity_outside_training() {
        let x = Tensor::<1>::ones([N], &test_device());
        assert_eq!(dropout(x.clone(), PROBABILITY).into_data(), x.into_data());
    }
}
