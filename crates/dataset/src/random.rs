//! Random numbers that no release of a library changes, so that a run resumed by a later version sees the same data.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The purpose of a generator. Generators with the same key and different purposes are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    TrainWindows,
    EvaluationWindows,
    ShuffleRows,
}

impl Purpose {
    /// The generator's nonce. The data order of runs depends on these values: never change them.
    fn nonce(self) -> u64 {
        match self {
            Self::TrainWindows => 0,
            Self::EvaluationWindows => 1,
            Self::ShuffleRows => 2,
        }
    }
}

/// ChaCha with 8 rounds. Its key is the numbers and 0, each as 8 bytes, little-endian; its nonce is the purpose.
pub(crate) fn generator(numbers: [u64; 3], purpose: Purpose) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (part, number) in key.as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
        *part = number.to_le_bytes();
    }
    let mut generator = ChaCha8Rng::from_seed(key);
    generator.set_stream(purpose.nonce());
    generator
}

/// Maps 64 random bits to `0..bound`: the upper half of `random * bound`.
///
/// The bias is at most `bound` in 2⁶⁴ ([Lemire 2019](https://arxiv.org/abs/1805.10941), without rejection).
pub(crate) fn below(bound: usize, random: u64) -> usize {
    let product = u128::from(random) * bound as u128;
    usize::try_from(product >> 64).expect("the upper half is below the bound")
}

/// Shuffles by Fisher and Yates, from the end.
pub(crate) fn shuffle<T>(items: &mut [T], generator: &mut ChaCha8Rng) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(last + 1, generator.next_u64()));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn all_orders_are_equally_likely() {
        let mut counts: BTreeMap<[u8; 3], u32> = BTreeMap::new();
        for seed in 0..6000 {
            let mut items = [0, 1, 2];
            shuffle(&mut items, &mut generator([seed, 0, 0], Purpose::ShuffleRows));
            *counts.entry(items).or_default() += 1;
        }
        assert_eq!(counts.len(), 6);
        // 1000 expected, standard deviation 29.
        assert!(counts.values().all(|count| (880..1120).contains(count)), "{counts:?}");
    }

    /// This order must never change: runs resumed by later versions depend on it.
    #[test]
    fn the_order_never_changes() {
        let mut items: Vec<usize> = (0..10).collect();
        shuffle(&mut items, &mut generator([1337, 5, 0], Purpose::ShuffleRows));
        assert_eq!(items, GOLDEN);
    }

    /// As first computed.
    const GOLDEN: [usize; 10] = [2, 9, 3, 6, 7, 1, 4, 8, 5, 0];
}
