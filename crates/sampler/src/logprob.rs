//! Log-probabilities, in nats.

use crate::top_k;

/// The natural logarithm of the softmax.
///
/// The largest logit is subtracted first and the sum is computed in `f64`, so finite logits of any size give finite
/// results. A logit of -inf gives -inf. If a logit is NaN, or all are -inf, every result is NaN.
///
/// # Shapes
///
/// - `logits`: V
/// - output: V
pub fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let log_sum_exp = log_sum_exp(logits);
    logits.iter().map(|&logit| subtract(logit, log_sum_exp)).collect()
}

/// The log-probability of token `id`: one entry of [`log_softmax`].
///
/// # Panics
///
/// If there is no logit for `id`.
pub fn logprob(logits: &[f32], id: u32) -> f32 {
    let vocab_size = logits.len();
    let logit = logits.get(id as usize).unwrap_or_else(|| panic!("token {id} of {vocab_size} logits"));
    subtract(*logit, log_sum_exp(logits))
}

/// The log-probabilities of token `id` and of the `n` most probable tokens, the most probable first, in nats. Ties keep
/// the lower ids.
///
/// # Panics
///
/// If there is no logit for `id`.
pub fn top_logprobs(logits: &[f32], id: u32, n: usize) -> (f32, Vec<(u32, f32)>) {
    let vocab_size = logits.len();
    let logit = logits.get(id as usize).unwrap_or_else(|| panic!("token {id} of {vocab_size} logits"));
    let log_sum_exp = log_sum_exp(logits);
    let mut top = if n == 0 { Vec::new() } else { top_k((0..).zip(logits.iter().copied()), n) };
    top.sort_by(|(_, a), (_, b)| b.total_cmp(a)); // Stable: equal logits stay in ascending order of id.
    top.iter_mut().for_each(|(_, logit)| *logit = subtract(*logit, log_sum_exp));
    (subtract(*logit, log_sum_exp), top)
}

/// ln Σ exp(logit).
fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - max).exp()).sum();
    max + sum.ln()
}

#[expect(clippy::cast_possible_truncation, reason = "only the sum needs the precision of f64")]
fn subtract(logit: f32, log_sum_exp: f64) -> f32 {
    (f64::from(logit) - log_sum_exp) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBS: [f32; 4] = [0.125, 0.125, 0.25, 0.5];

    #[test]
    fn log_softmax_matches_known_probabilities() {
        let logits = PROBS.map(f32::ln);
        for (got, expected) in log_softmax(&logits).into_iter().zip(logits) {
            assert!((got - expected).abs() < 1e-6, "{got} is not {expected}");
        }
    }

    #[test]
    fn a_constant_shift_changes_nothing_even_if_a_plain_exp_overflows() {
        let logits = [0.0, 2.0, -3.0_f32]; // Integers: adding 1000 is exact.
        assert_eq!(log_softmax(&logits.map(|x| x + 1000.0)), log_softmax(&logits));
        assert_eq!(log_softmax(&logits.map(|x| x - 1000.0)), log_softmax(&logits));
        assert_ne!(log_softmax(&logits.map(|x| x * 2.0)), log_softmax(&logits));
    }

    #[test]
    fn logprob_is_an_entry_of_log_softmax() {
        let logits = [0.3, -1.5, f32::NEG_INFINITY, 4.0];
        let all = log_softmax(&logits);
        assert_eq!(all[2], f32::NEG_INFINITY);
        for (id, &expected) in (0..).zip(&all) {
            assert_eq!(logprob(&logits, id), expected);
        }
    }

    #[test]
    fn the_most_probable_tokens_come_first_with_the_values_of_log_softmax() {
        let logits = [0.3, 4.0, f32::NEG_INFINITY, 4.0, -1.5];
        let all = log_softmax(&logits);
        let expected = [1, 3, 0].map(|id| (id, all[id as usize]));
        assert_eq!(top_logprobs(&logits, 4, 3), (all[4], expected.to_vec()));
        assert_eq!(top_logprobs(&logits, 1, 0), (all[1], Vec::new()));
        assert_eq!(top_logprobs(&logits, 1, 9).1.len(), 5);
    }

    #[test]
    fn equal_logits_give_minus_ln_v() {
        let vocab_size = 65_u8;
        let logprob = logprob(&vec![1.5; vocab_size.into()], 64);
        assert!((logprob + f32::from(vocab_size).ln()).abs() < 1e-6, "{logprob}");
    }

    #[test]
    #[should_panic(expected = "token 4 of 4 logits")]
    fn an_id_outside_the_vocabulary_panics_with_both_numbers() {
        logprob(&PROBS, 4);
    }
}
