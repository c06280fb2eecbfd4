//! Dropout.

use burn::{prelude::*, tensor::Distribution};

use crate::cpu::dropout::Mask;

/// Zeroes each element with probability `probability` while training, and scales the rest so that the
/// expectation stays ([Srivastava et al., 2014](https://jmlr.org/papers/v15/srivastava14a.html)).
///
/// Training means that `x` lives on a device that records gradients; anywhere else, and for a probability
/// of zero, it is the identity. The mask is drawn from the generator of the device, so `Device::seed`
/// makes it reproducible.
///
/// # Shapes
///
/// Any; the output's is that of `x`.
pub fn dropout<const D: usize>(x: Tensor<D>, probability: f64) -> Tensor<D> {
    if !drops(&x.device(), probability) {
        return x;
    }
    let keep = 1.0 - probability;
    let mask = x.random_like(Distribution::Bernoulli(keep)) / keep;
    x * mask
}

/// Whether anything is dropped: not outside training.
pub(crate) fn drops(device: &Device, probability: f64) -> bool {
    probability != 0.0 && device.is_autodiff()
}

/// The mask of a fused operation, or `None` where nothing is dropped. Its seed comes from the generator of the
/// device.
pub(crate) fn mask(device: &Device, probability: f64) -> Option<Mask> {
    if !drops(device, probability) {
        return None;
    }
    let halves = Tensor::<1, Int>::random([2], Distribution::Uniform(0.0, f64::from(u32::MAX >> 1)), device);
    let halves: Vec<i64> = halves.into_data().iter().collect();
    let seed = halves.iter().fold(0, |seed, half| (seed << 32) | half.unsigned_abs());
    Mask::new(probability, seed)
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
        device.seed(3);
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
    fn is_the_identity_outside_training() {
        let x = Tensor::<1>::ones([N], &test_device());
        assert_eq!(dropout(x.clone(), PROBABILITY).into_data(), x.into_data());
    }
}
