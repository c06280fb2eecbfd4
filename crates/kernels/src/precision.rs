//! What products are computed in.

use burn::{
    prelude::*,
    tensor::{DType, FloatDType},
};
use serde::{Deserialize, Serialize};

use crate::{cpu::level::Level, device::has_fused_operations};

/// What the products of linear layers and of the output head, and on other devices than the CPU those of attention, are
/// computed in, forward and backward. Sums, softmax, norms, the loss and the weights themselves are f32 in either case.
///
/// A GPU may make products of f32 with TF32, whose factors have eleven bits of mantissa.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Factors as they are.
    #[default]
    F32,
    /// Factors rounded to eight bits of mantissa: about twice as fast where there are instructions for it. A
    /// product of four rows or fewer, as in writing, stays in f32: it waits for memory.
    Bf16,
}

impl Precision {
    /// What it comes to on a device: f32 on a GPU that has no bf16, and on a processor that has no instructions for it, which
    /// are those of AVX-512 BF16.
    #[must_use]
    pub fn on(self, device: &Device) -> Self {
        let has_bf16 = if has_fused_operations(device) {
            Level::of(Self::Bf16).pairs().is_some()
        } else {
            device.supports_dtype(DType::BF16)
        };
        if has_bf16 { self } else { Self::F32 }
    }
}

/// `x · y`, the definition.
pub(crate) fn product<const D: usize>(x: Tensor<D>, y: Tensor<D>, precision: Precision) -> Tensor<D> {
    match precision {
        Precision::F32 => x.matmul(y),
        Precision::Bf16 => x.cast(FloatDType::BF16).matmul(y.cast(FloatDType::BF16)).cast(FloatDType::F32),
    }
}
