//! The measured peak speed of a GPU. The CPU's is in the crate `roofline`.

use std::time::{Duration, Instant};

use burn::{
    prelude::*,
    tensor::{DType, Distribution, ExecutionError, FloatDType},
};

/// Number of measurements, of which the best counts: the first ones compile and autotune kernels.
const TRIES: u32 = 8;
/// Products per measurement, so that launch and synchronisation take a small share.
const PRODUCTS: u32 = 20;
/// Rows and columns of the matrices: enough to keep the largest GPU busy.
const SIZE: usize = 8192;

/// Peak operations per second of a product of two large bf16 matrices; a multiply-add counts as two. `None` on a device
/// without bf16.
///
/// # Errors
///
/// If the device fails.
pub fn device_peak_flops(device: &Device) -> Result<Option<f64>, ExecutionError> {
    peak_flops(device, SIZE)
}

/// As [`device_peak_flops`], for matrices with `size` rows and columns.
fn peak_flops(device: &Device, size: usize) -> Result<Option<f64>, ExecutionError> {
    if !device.supports_dtype(DType::BF16) {
        return Ok(None);
    }
    // The scale keeps the variance of the product, so that it can be the left operand of the next.
    let scale = Distribution::Normal(0.0, (size as f64).sqrt().recip());
    let right = Tensor::<2>::random([size; 2], scale, device).cast(FloatDType::BF16);
    let mut left =
        Tensor::<2>::random([size; 2], Distribution::Normal(0.0, 1.0), device).cast(FloatDType::BF16);
    let mut best = Duration::MAX;
    device.sync()?;
    for _ in 0..TRIES {
        let start = Instant::now();
        for _ in 0..PRODUCTS {
            left = left.matmul(right.clone());
        }
        device.sync()?;
        best = best.min(start.elapsed());
    }
    Ok(Some(f64::from(PRODUCTS) * 2.0 * (size as f64).powi(3) / best.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{test_device, test_device_has_bf16};

    #[test]
    fn a_larger_product_has_more_flops() {
        let device = test_device();
        if !test_device_has_bf16() {
            assert_eq!(peak_flops(&device, 2).unwrap(), None);
            return;
        }
        let [small, large] = [2, 256].map(|size| peak_flops(&device, size).unwrap().unwrap());
        assert!(0.0 < small && small < large && large < 1e16, "{small} and {large}");
    }
}
