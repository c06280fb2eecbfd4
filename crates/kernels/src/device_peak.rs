//! The peak speed of a GPU, measured; the processor's is in the crate `roofline`.

use std::time::{Duration, Instant};

use burn::{
    prelude::*,
    tensor::{DType, Distribution, ExecutionError, FloatDType},
};

/// Measurements of which the best counts: the first compile kernels and choose among them.
const TRIES: u32 = 8;
/// Products in one measurement, so that starting and waiting count for little.
const PRODUCTS: u32 = 20;
/// Rows and columns of a matrix that keeps the largest GPU busy.
const SIZE: usize = 8192;

/// The most operations a second of a product of two large bf16 matrices, a multiply-add being two. `None` on a device
/// without bf16.
///
/// # Errors
///
/// If the device fails.
pub fn device_peak_flops(device: &Device) -> Result<Option<f64>, ExecutionError> {
    peak_flops(device, SIZE)
}

/// As [`device_peak_flops`], of matrices of `size` rows and columns.
fn peak_flops(device: &Device, size: usize) -> Result<Option<f64>, ExecutionError> {
    if !device.supports_dtype(DType::BF16) {
        return Ok(None);
    }
    // A product is as large as its left factor, so that each can be the factor of the next.
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

    #[test]
    fn a_larger_product_is_no_slower_an_operation() {
        let device = crate::testing::test_device();
        let [small, large] = [2, 256].map(|size| peak_flops(&device, size).unwrap().unwrap());
        assert!(0.0 < small && small < large && large < 1e16, "{small} and {large}");
    }
}
