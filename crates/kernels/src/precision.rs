//! Products in a precision, and which of them a device has.

use burn::{
    prelude::*,
    tensor::{DType, FloatDType},
};
use cpu::{Precision, SimdLevel};

use crate::device::has_fused_operations;

/// The precision that a device computes in when asked for `precision`: f32 on a GPU that has no bf16, and on a processor
/// that lacks AVX-512 BF16.
#[must_use]
pub fn supported_precision(precision: Precision, device: &Device) -> Precision {
    let has_bf16 =
        if has_fused_operations(device) { SimdLevel::has_bf16() } else { device.supports_dtype(DType::BF16) };
    if has_bf16 { precision } else { Precision::F32 }
}

/// `x · y`, the definition.
pub(crate) fn product<const D: usize>(x: Tensor<D>, y: Tensor<D>, precision: Precision) -> Tensor<D> {
    match precision {
        Precision::F32 => x.matmul(y),
        Precision::Bf16 => x.cast(FloatDType::BF16).matmul(y.cast(FloatDType::BF16)).cast(FloatDType::F32),
    }
}
