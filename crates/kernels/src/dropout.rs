//! Dropout.

use std::{cell::Cell, ops::Range};

use burn::{
    backend::{
        Backend, Dispatch, TensorMetadata, get_device_settings,
        tensor::{BoolTensor, FloatTensor, IntTensor},
    },
    prelude::*,
    tensor::{IntDType, Scalar},
};
use cpu::dropout::{MIX, MIX_LAST, Mask};

use crate::{
    device::{count_gpu_path, is_on_gpu},
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

/// Whether `mask` drops each of the first `n_columns` elements of the rows with indices `rows`, `[R]`, as `[R, C]`. The
/// indices count from the mask's first row.
/// Computed with tensor operations.
pub(crate) fn is_dropped<B: Backend>(mask: Mask, rows: IntTensor<B>, n_columns: usize) -> BoolTensor<B> {
    let (n_rows, device) = (rows.shape()[0], rows.device());
    let first_row = i64::try_from(mask.first_row).expect("a batch has fewer than 2^63 rows");
    let rows = B::int_add_scalar(rows, first_row.into());
    let rows = B::int_cast(B::int_reshape(rows, [n_rows, 1].into()), IntDType::U32);
    let keys = mask
        .seed
        .into_iter()
        .fold(rows, |keys, half| mix::<B>(B::bitwise_xor_scalar(keys, Scalar::UInt(half.into()))));
    let columns = B::int_cast(arange::<B>(0..n_columns, &device), IntDType::U32);
    let bits = mix::<B>(B::bitwise_xor(keys, B::int_reshape(columns, [1, n_columns].into())));
    let booleans = get_device_settings::<B>(&device).bool_dtype;
    B::int_lower_elem(bits, Scalar::UInt(mask.threshold.into()), booleans)
}

/// Zero where `is_dropped` is true, and elsewhere `x` times the scale of `mask`.
pub(crate) fn drop_out<B: Backend>(
    x: FloatTensor<B>,
    is_dropped: BoolTensor<B>,
    mask: Mask,
) -> FloatTensor<B> {
    B::float_mask_fill(B::float_mul_scalar(x, mask.scale.into()), is_dropped, 0.0.into())
}

/// Length of the short ranges in [`arange`].
const RUN: usize = 256;

/// `range` as i32, `[N]`.
///
/// Computed from two short ranges: on GPUs, a long one is a prefix sum.
pub(crate) fn arange<B: Backend>(range: Range<usize>, device: &B::Device) -> IntTensor<B> {
    let count = |n: usize| B::int_arange(0..i64::try_from(n).unwrap_or(i64::MAX), device, IntDType::I32);
    let scalar = |n: usize| Scalar::Int(i64::try_from(n).unwrap_or(i64::MAX));
    let n = range.len();
    let n_runs = n.div_ceil(RUN);
    let starts = B::int_add_scalar(B::int_mul_scalar(count(n_runs), scalar(RUN)), scalar(range.start));
    let starts = B::int_reshape(starts, [n_runs, 1].into());
    let all = B::int_add(starts, B::int_reshape(count(RUN), [1, RUN].into()));
    B::int_slice(B::int_reshape(all, [n_runs * RUN].into()), &[(0..n).into()])
}

/// The hash of [`cpu::dropout`]. On the CPU, Burn multiplies u32 as i64 without overflow checks, which does not change
/// the low 32 bits.
fn mix<B: Backend>(x: IntTensor<B>) -> IntTensor<B> {
    let shifted = |x: IntTensor<B>, shift: u32| {
        B::bitwise_xor(x.clone(), B::bitwise_right_shift_scalar(x, Scalar::UInt(shift.into())))
    };
    let mixed = MIX
        .into_iter()
        .fold(x, |x, (shift, factor)| B::int_mul_scalar(shifted(x, shift), Scalar::UInt(factor.into())));
    shifted(mixed, MIX_LAST)
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
    fn the_values_are_a_range() {
        let device = Tensor::<1>::zeros([1], &test_device()).into_dispatch().device();
        for range in [0..1, 0..256, 3..260, 7..1000, 0..100_000] {
            let got = Tensor::<1, Int>::from_dispatch(arange::<Dispatch>(range.clone(), &device));
            assert!(got.into_data().iter::<i64>().eq(range.map(|idx| idx as i64)));
        }
    }

    #[test]
    fn tensor_operations_give_the_mask_of_fused_operations() {
        let (n_rows, n_columns) = (37, 41);
        for seed in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            let mask = Mask::new(0.3, seed).expect("a probability above 0");
            let mut expected = vec![1f32; n_rows * n_columns];
            for (row, values) in (0..).zip(expected.chunks_mut(n_columns)) {
                mask.apply(row, values);
            }
            let ones = Tensor::<2>::ones([n_rows, n_columns], &test_device()).into_dispatch();
            let rows = arange::<Dispatch>(0..n_rows, &ones.device());
            let is_dropped = is_dropped::<Dispatch>(mask, rows, n_columns);
            let factors = Tensor::<2>::from_dispatch(drop_out::<Dispatch>(ones, is_dropped, mask));
            assert_eq!(factors.into_data(), TensorData::new(expected, [n_rows, n_columns]));
        }
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
