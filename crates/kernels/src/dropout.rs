//! Dropout.

use std::cell::Cell;

use burn::{
    backend::{
        Backend, Dispatch, TensorMetadata, get_device_settings,
        tensor::{FloatTensor, IntTensor},
    },
    prelude::*,
    tensor::{FloatDType, IntDType, Scalar},
};

use crate::cpu::dropout::{MIX, Mask};

thread_local! {
    static MASKS: Cell<u64> = const { Cell::new(0) };
}

/// Fixes what dropout drops on this thread from here on, on any device: the same numbers on each.
///
/// A thread on which this was never called begins with a seed of 0.
pub fn seed_dropout(seed: u64) {
    MASKS.set(seed);
}

/// Zeroes each element with probability `probability` while training, and scales the rest so that the
/// expectation stays ([Srivastava et al., 2014](https://jmlr.org/papers/v15/srivastava14a.html)).
///
/// Training means that `x` lives on a device that records gradients; anywhere else, and for a probability
/// of zero, it is the identity. [`seed_dropout`] makes it reproducible.
///
/// # Shapes
///
/// Any; the output's is that of `x`.
pub fn dropout<const D: usize>(x: Tensor<D>, probability: f64) -> Tensor<D> {
    let Some(mask) = mask(&x.device(), probability) else { return x };
    let shape = x.dims();
    let n_columns = shape[D - 1];
    let n_rows = shape.iter().product::<usize>() / n_columns.max(1);
    let rows = numbers::<Dispatch>(n_rows, &x.clone().into_dispatch().device());
    x * Tensor::<2>::from_dispatch(factors::<Dispatch>(mask, rows, n_columns)).reshape(shape)
}

/// The next mask of this thread, or `None` where nothing is dropped: outside training.
pub(crate) fn mask(device: &Device, probability: f64) -> Option<Mask> {
    if probability == 0.0 || !device.is_autodiff() {
        return None;
    }
    Mask::new(probability, next_seed())
}

/// SplitMix64 ([Steele et al., 2014](https://doi.org/10.1145/2714064.2660195)).
fn next_seed() -> u64 {
    let state = MASKS.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    MASKS.set(state);
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What a mask multiplies the first `n_columns` numbers of some rows by, `[R, C]`, by tensor operations; `rows`,
/// `[R]`, are their numbers in u32.
pub(crate) fn factors<B: Backend>(mask: Mask, rows: IntTensor<B>, n_columns: usize) -> FloatTensor<B> {
    let (n_rows, device) = (rows.shape()[0], rows.device());
    let keys = mask
        .seed
        .into_iter()
        .fold(rows, |keys, half| mix::<B>(B::bitwise_xor_scalar(keys, Scalar::UInt(half.into()))));
    let spread = |x, shape: [usize; 2]| {
        B::int_expand(B::int_reshape(x, Shape::new(shape)), Shape::new([n_rows, n_columns]))
    };
    let columns = spread(numbers::<B>(n_columns, &device), [1, n_columns]);
    let bits = mix::<B>(B::bitwise_xor(columns, spread(keys, [n_rows, 1])));
    let booleans = get_device_settings::<B>(&device).bool_dtype;
    let is_kept = B::int_greater_equal_elem(bits, Scalar::UInt(mask.threshold.into()), booleans);
    B::float_mul_scalar(B::bool_into_float(is_kept, FloatDType::F32), mask.scale.into())
}

/// From 0, in u32.
pub(crate) fn numbers<B: Backend>(n: usize, device: &B::Device) -> IntTensor<B> {
    let n = i64::try_from(n).expect("a tensor is far below 2^63 numbers");
    // Not in u32 at once: GPUs count from 1 and add -1.
    B::int_cast(B::int_arange(0..n, device, IntDType::I32), IntDType::U32)
}

/// As that of [`crate::cpu::dropout`].
fn mix<B: Backend>(x: IntTensor<B>) -> IntTensor<B> {
    MIX.into_iter().fold(x, |x, (shift, factor)| {
        let shifted = B::bitwise_right_shift_scalar(x.clone(), Scalar::UInt(shift.into()));
        B::int_mul_scalar(B::bitwise_xor(x, shifted), Scalar::UInt(factor.into()))
    })
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "the numbers of tests are small")]
mod tests {
    use super::*;
    use crate::test_device;

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

        // A binomial count within five standard deviations: wrong once in two million seeds.
        let n_dropped = kept.iter().filter(|&&x| x == 0.0).count() as f64;
        let deviation = (N as f64 * PROBABILITY * (1.0 - PROBABILITY)).sqrt();
        assert!((n_dropped - N as f64 * PROBABILITY).abs() < 5.0 * deviation, "{n_dropped} dropped");
    }

    #[test]
    fn a_seed_fixes_what_is_dropped() {
        let device = test_device().autodiff();
        let draw = || dropout(Tensor::<1>::ones([100], &device), 0.5).into_data();
        let [one, same, other] = [1, 1, 2].map(|seed| {
            seed_dropout(seed);
            [draw(), draw()]
        });
        assert_eq!(one, same);
        assert_ne!(one, other);
        assert_ne!(one[0], one[1], "the same was dropped twice");
    }

    /// The one that fused operations compute has other code.
    #[test]
    fn a_mask_is_the_same_by_rows_and_by_tensor_operations() {
        let (n_rows, n_columns) = (37, 41);
        for seed in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            let mask = Mask::new(0.3, seed).expect("a probability above 0");
            let mut expected = vec![1f32; n_rows * n_columns];
            for (row, values) in (0..).zip(expected.chunks_mut(n_columns)) {
                mask.apply(row, values);
            }
            let device = Tensor::<1>::zeros([1], &test_device()).into_dispatch().device();
            let factors = factors::<Dispatch>(mask, numbers::<Dispatch>(n_rows, &device), n_columns);
            let factors = Tensor::<2>::from_dispatch(factors);
            assert_eq!(factors.into_data(), TensorData::new(expected, [n_rows, n_columns]));
        }
    }

    #[test]
    fn is_the_identity_outside_training() {
        let x = Tensor::<1>::ones([N], &test_device());
        assert_eq!(dropout(x.clone(), PROBABILITY).into_data(), x.into_data());
    }
}
