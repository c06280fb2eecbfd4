//! Dropout masks in tensor operations.

use std::ops::Range;

use burn::{
    backend::{
        Backend, TensorMetadata, get_device_settings,
        tensor::{BoolTensor, FloatTensor, IntTensor},
    },
    tensor::{IntDType, Scalar},
};
use cpu::dropout::{MIX, MIX_LAST, Mask};

/// Whether `mask` drops each of the first `n_columns` elements of the rows with indices `rows`, `[R]`, as `[R, C]`. The
/// indices count from the mask's first row.
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
    use burn::{backend::Dispatch, prelude::*};

    use super::*;
    use crate::testing::test_device;

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
}
