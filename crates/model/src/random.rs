//! Random numbers by keys, the same on every device.

use burn::prelude::*;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rand_distr::{Distribution, Uniform};

/// A generator that is keyed by two numbers.
pub(crate) fn keyed(seeds: [u64; 2]) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (part, seed) in key.as_chunks_mut::<8>().0.iter_mut().zip(seeds) {
        *part = seed.to_le_bytes();
    }
    ChaCha8Rng::from_seed(key)
}

/// A matrix of uniform values in ±`bound`, which depend on `seeds`.
pub(crate) fn uniform(shape: [usize; 2], bound: f64, seeds: [u64; 2], device: &Device) -> Tensor<2> {
    let uniform = Uniform::new_inclusive(-bound, bound).expect("the bounds are finite");
    #[expect(clippy::cast_possible_truncation, reason = "weights are f32, sampled in f64")]
    let values: Vec<f32> =
        uniform.sample_iter(keyed(seeds)).take(shape.iter().product()).map(|value| value as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}
