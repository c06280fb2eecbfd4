//! Log-probabilities, in nats.

/// The natural logarithm of the softmax of all logits.
///
/// Subtracting the largest logit first keeps every exponential at most 1, so that logits of any finite
/// size give finite results; the sum is kept in `f64`. A logit of -inf has a log-probability of -inf.
/// A NaN among the logits, or nothing but -inf, gives NaN.
///
/// # Shapes
///
/// - `logits`: V, those of one position
/// - output: V
pub fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let log_sum_exp = log_sum_exp(logits);
    logits.iter().map(|&logit| subtract(logit, log_sum_exp)).collect()
}

/// The natural logarithm of the probability of token `id`: one entry of [`log_softmax`].
///
/// # Panics
///
/// If there is no logit for `id`.
pub fn logprob(logits: &[f32], id: u32) -> f32 {
    let vocab_size = logits.len();
    let logit = logits.get(id as usize).unwrap_or_else(|| panic!("token {id} of {vocab_size} logits"));
    subtract(*logit, log_sum_exp(logits))
}

/// ln Σ exp(logit).
fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - max).exp()).sum();
    max + sum.ln()
}

#[expect(clippy::cast_possible_truncation, reason = "f32 in, f32 out; only the sum needs more digits")]
fn subtract(logit: f32, log_sum_exp: f64) -> f32 {
    (f64::from(logit) - log_sum_exp) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits are the logarithms of 1/8, 1/8, 1/4, 1/2.
    const EIGHTHS: [f32; 4] = [0.125, 0.125, 0.25, 0.5];

    #[test]
    fn matches_probabilities_known_by_hand() {
        let logits = EIGHTHS.map(f32::ln);
        for (got, expected) in log_softmax(&logits).into_iter().zip(logits) {
            assert!((got - expected).abs() < 1e-6, "{got} is not {expected}");
        }
    }

    #[test]
    fn a_shift_of_all_logits_changes_nothing_even_where_a_plain_exp_overflows() {
        let logits = [0.0, 2.0, -3.0_f32]; // Whole numbers: adding 1000 rounds nothing.
        assert_eq!(log_softmax(&logits.map(|x| x + 1000.0)), log_softmax(&logits));
        assert_eq!(log_softmax(&logits.map(|x| x - 1000.0)), log_softmax(&logits));
        assert_ne!(log_softmax(&logits.map(|x| x * 2.0)), log_softmax(&logits));
    }

    #[test]
    fn one_entry_equals_the_entry_of_all() {
        let logits = [0.3, -1.5, f32::NEG_INFINITY, 4.0];
        let all = log_softmax(&logits);
        assert_eq!(all[2], f32::NEG_INFINITY);
        for (id, &expected) in (0..).zip(&all) {
            assert_eq!(logprob(&logits, id), expected);
        }
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
        logprob(&EIGHTHS, 4);
    }
}
