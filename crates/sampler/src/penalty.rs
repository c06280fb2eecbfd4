//! Penalties, which lower the logits of tokens that occurred before.

use std::collections::{BTreeMap, BTreeSet};

/// Makes the tokens in `seen` less probable (`penalty` above 1) or more (below 1); 1 changes nothing.
///
/// A positive logit is divided by the penalty, as in section 4.1 of [CTRL](https://arxiv.org/abs/1909.05858). A
/// negative one is multiplied, as in Hugging Face transformers and llama.cpp, because dividing it would make the token
/// more probable. The number of occurrences does not matter. Ids without a logit are ignored.
pub fn penalize_repetition(logits: &mut [f32], seen: &BTreeSet<u32>, penalty: f32) {
    for &id in seen {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
    }
}

/// Subtracts `penalty` from a logit for each occurrence of its token in the generated text; 0 changes nothing.
///
/// This is the first half of OpenAI's formula: logit − count · frequency − \[count > 0\] · presence, where count is how
/// often the token was sampled ([advanced usage]). The prompt does not count, nor does it in vLLM, whose penalties
/// apply to "the generated text so far" ([sampling parameters]). Ids without a logit are ignored.
///
/// [advanced usage]: https://platform.openai.com/docs/advanced-usage#frequency-and-presence-penalties
/// [sampling parameters]: https://docs.vllm.ai/en/v0.8.3/api/inference_params.html
pub fn penalize_frequency(logits: &mut [f32], counts: &BTreeMap<u32, u32>, penalty: f32) {
    for (&id, &count) in counts {
        if let Some(logit) = logits.get_mut(id as usize) {
            #[expect(clippy::cast_precision_loss, reason = "counts are below 2²⁴")]
            let count = count as f32;
            *logit -= count * penalty;
        }
    }
}

/// Subtracts `penalty` once from the logit of each generated token; 0 changes nothing.
///
/// This is the second half of the formula in [`penalize_frequency`], with the same `counts`.
pub fn penalize_presence(logits: &mut [f32], counts: &BTreeMap<u32, u32>, penalty: f32) {
    for &id in counts.keys() {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit -= penalty;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [3.0, -3.0, 3.0, -3.0, f32::NEG_INFINITY];

    fn repetition(penalty: f32) -> [f32; 5] {
        let mut logits = LOGITS;
        penalize_repetition(&mut logits, &BTreeSet::from([0, 1, 4, 99]), penalty);
        logits
    }

    fn counts() -> BTreeMap<u32, u32> {
        BTreeMap::from([(0, 1), (1, 3), (4, 2), (99, 1)])
    }

    fn frequency(penalty: f32) -> [f32; 5] {
        let mut logits = LOGITS;
        penalize_frequency(&mut logits, &counts(), penalty);
        logits
    }

    fn presence(penalty: f32) -> [f32; 5] {
        let mut logits = LOGITS;
        penalize_presence(&mut logits, &counts(), penalty);
        logits
    }

    #[test]
    fn repetition_lowers_logits_of_either_sign() {
        assert_eq!(repetition(2.0), [1.5, -6.0, 3.0, -3.0, f32::NEG_INFINITY]);
    }

    #[test]
    fn frequency_uses_counts_and_presence_does_not() {
        assert_eq!(frequency(0.5), [2.5, -4.5, 3.0, -3.0, f32::NEG_INFINITY]);
        assert_eq!(presence(0.5), [2.5, -3.5, 3.0, -3.0, f32::NEG_INFINITY]);
    }

    #[test]
    fn negative_penalties_raise_logits() {
        assert_eq!(repetition(0.5), [6.0, -1.5, 3.0, -3.0, f32::NEG_INFINITY]);
        assert_eq!(frequency(-0.5), [3.5, -1.5, 3.0, -3.0, f32::NEG_INFINITY]);
        assert_eq!(presence(-0.5), [3.5, -2.5, 3.0, -3.0, f32::NEG_INFINITY]);
    }

    #[test]
    fn a_penalty_that_is_off_changes_nothing() {
        assert_eq!(repetition(1.0), LOGITS);
        assert_eq!(frequency(0.0), LOGITS);
        assert_eq!(presence(0.0), LOGITS);
    }
}
