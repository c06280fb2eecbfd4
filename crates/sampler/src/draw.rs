//! One random number and a distribution to one token.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::Candidate;

/// The random numbers of one sample, the same on every platform.
///
/// They are the key stream of ChaCha with 8 rounds, with `seed` as the key (64 bits, little-endian, then
/// zeros) and `sample_idx` as the nonce, so no sample depends on how many others are drawn.
pub fn random_stream(seed: u64, sample_idx: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(sample_idx);
    rng
}

/// A uniform number in `[0, 1)`: the upper 53 bits of the next 64, as a fraction.
pub fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    /// The distance between neighbours among the results, 2⁻⁵³.
    const STEP: f64 = f64::EPSILON / 2.0;
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
    let numerator = (rng.next_u64() >> 11) as f64;
    numerator * STEP
}

/// The token at which the cumulative probability, summed in ascending order of id, first exceeds `u`: the
/// inverse of the cumulative distribution function.
///
/// # Panics
///
/// If no candidate has a probability above 0.
pub fn draw(candidates: &[Candidate], u: f64) -> u32 {
    let mut cumulative = 0.0;
    for candidate in candidates {
        cumulative += candidate.prob;
        if u < cumulative {
            return candidate.id;
        }
    }
    // The sum is 1 only up to rounding, and `u` came out above it.
    let last = candidates.iter().rfind(|candidate| candidate.prob > 0.0);
    last.expect("the probabilities of a distribution add up to 1").id
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test case 1 for ChaCha8 with a key of 256 bits, all zero, in draft-strombergson-chacha-test-vectors.
    #[test]
    fn the_stream_is_that_of_the_published_test_vector() {
        let mut rng = random_stream(0, 0);
        assert_eq!(rng.next_u64().to_le_bytes(), [0x3e, 0x00, 0xef, 0x2f, 0x89, 0x5f, 0x40, 0xd6]);
        assert_eq!(rng.next_u64().to_le_bytes(), [0x7f, 0x5b, 0xb8, 0xe8, 0x1f, 0x09, 0xa5, 0xa1]);
    }

    #[test]
    fn seed_and_sample_both_change_the_stream() {
        let first = |seed, sample_idx| uniform(&mut random_stream(seed, sample_idx));
        assert_eq!(first(1, 2), first(1, 2));
        assert_ne!(first(1, 2), first(2, 2));
        assert_ne!(first(1, 2), first(1, 3));
    }

    #[test]
    fn cumulative_probabilities_are_borders_that_belong_to_the_next_token() {
        let probs = [(2, 0.25), (3, 0.0), (5, 0.5), (9, 0.25)];
        let candidates = probs.map(|(id, prob)| Candidate { id, prob });
        let just_below = |u: f64| u.next_down();
        let cases = [(0.0, 2), (just_below(0.25), 2), (0.25, 5), (just_below(0.75), 5), (0.75, 9)];
        for (u, id) in cases {
            assert_eq!(draw(&candidates, u), id, "at {u}");
        }
    }

    #[test]
    fn a_sum_rounded_below_one_falls_to_the_last_possible_token() {
        let candidates = [(2, 0.5), (5, 0.49), (9, 0.0)].map(|(id, prob)| Candidate { id, prob });
        assert_eq!(draw(&candidates, 1.0_f64.next_down()), 5);
    }
}
