//! Matrix products in a precision, and the precisions of a device.

use burn::{
    prelude::*,
    tensor::{DType, FloatDType},
};
use cpu::{Precision, SimdLevel};

use crate::device::has_fused_operations;

/// The precision in which a device computes if `precision` is requested: f32 on a GPU without bf16, and on a CPU
/// without AVX-512 BF16.
#[must_use]
pub fn supported_precision(precision: Precision, device: &Device) -> Precision {
    let has_bf16 =
        if has_fused_operations(device) { SimdLevel::has_bf16() } else { device.supports_dtype(DType::BF16) };
    if has_bf16 { precision } else { Precision::F32 }
}

/// The reference implementation of `x · y`.
pub(crate) fn product<const D: usize>(x: Tensor<D>, y: Tensor<D>, precision: Precision) -> Tensor<D> {
    match precision {
        Precision::F32 => x.matmul(y),
        Precision::Bf16 => x.cast(FloatDType::BF16).matmul(y.cast(FloatDType::BF16)).cast(FloatDType::F32),
    }
}

pub(crate) fn as_f32<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if x.dtype() == DType::F32 { x } else { x.cast(FloatDType::F32) }
}
