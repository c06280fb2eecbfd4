//! Random numbers, and sampling a token from a distribution.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::Candidate;

/// The random number generator of one sample, the same on every platform.
///
/// It is ChaCha with 8 rounds. The key is `seed` (64 bits, little-endian, then zeros) and the nonce is `sample_idx`, so
/// a sample does not depend on the number of others.
pub fn random_stream(seed: u64, sample_idx: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(sample_idx);
    rng
}

/// A uniform random number in `[0, 1)`, from the upper 53 bits of the next 64.
pub fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    /// The spacing of the results, 2⁻⁵³.
    const STEP: f64 = f64::EPSILON / 2.0;
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
    let numerator = (rng.next_u64() >> 11) as f64;
    numerator * STEP
}

/// Samples a token with the random number `u`, by inverting the cumulative distribution function.
///
/// The result is the first id at which the cumulative probability, in ascending order of id, exceeds `u`.
///
/// # Panics
///
/// If every probability is 0.
pub fn sample_token(candidates: &[Candidate], u: f64) -> u32 {
    let mut cumulative = 0.0;
    for candidate in candidates {
        cumulative += candidate.prob;
        if u < cumulative {
            return candidate.id;
        }
    }
    // Rounding can leave the sum below 1, and `u` may be above it.
    let last = candidates.iter().rfind(|candidate| candidate.prob > 0.0);
    last.expect("the probabilities of a distribution sum to 1").id
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test case 1 of draft-strombergson-chacha-test-vectors for ChaCha8: an all-zero key of 256 bits.
    #[test]
    fn random_stream_matches_the_published_test_vector() {
        let mut rng = random_stream(0, 0);
        assert_eq!(rng.next_u64().to_le_bytes(), [0x3e, 0x00, 0xef, 0x2f, 0x89, 0x5f, 0x40, 0xd6]);
        assert_eq!(rng.next_u64().to_le_bytes(), [0x7f, 0x5b, 0xb8, 0xe8, 0x1f, 0x09, 0xa5, 0xa1]);
    }

    #[test]
    fn seed_and_sample_index_both_change_the_stream() {
        let first = |seed, sample_idx| uniform(&mut random_stream(seed, sample_idx));
        assert_eq!(first(1, 2), first(1, 2));
        assert_ne!(first(1, 2), first(2, 2));
        assert_ne!(first(1, 2), first(1, 3));
    }

    #[test]
    fn a_cumulative_probability_belongs_to_the_next_token() {
        let probs = [(2, 0.25), (3, 0.0), (5, 0.5), (9, 0.25)];
        let candidates = probs.map(|(id, prob)| Candidate { id, prob });
        let just_below = |u: f64| u.next_down();
        let cases = [(0.0, 2), (just_below(0.25), 2), (0.25, 5), (just_below(0.75), 5), (0.75, 9)];
        for (u, id) in cases {
            assert_eq!(sample_token(&candidates, u), id, "at {u}");
        }
    }

    #[test]
    fn a_sum_below_one_gives_the_last_possible_token() {
        let candidates = [(2, 0.5), (5, 0.49), (9, 0.0)].map(|(id, prob)| Candidate { id, prob });
        assert_eq!(sample_token(&candidates, 1.0_f64.next_down()), 5);
    }
}
