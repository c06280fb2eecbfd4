use std::collections::BTreeSet;

/// Makes the tokens in `seen` less probable (`penalty` above 1) or more (below 1); 1 changes nothing.
///
/// A positive logit is divided by the penalty, as in section 4.1 of [CTRL](https://arxiv.org/abs/1909.05858).
/// A negative one is multiplied instead, as Hugging Face and llama.cpp do: dividing it would make the token
/// more probable. How often a token was seen makes no difference. Ids without a logit are ignored.
pub fn penalize_repetition(logits: &mut [f32], seen: &BTreeSet<u32>, penalty: f32) {
    for &id in seen {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn penalized(penalty: f32) -> [f32; 5] {
        let mut logits = [3.0, -3.0, 3.0, -3.0, f32::NEG_INFINITY];
        penalize_repetition(&mut logits, &BTreeSet::from([0, 1, 4, 99]), penalty);
        logits
    }

    #[test]
    fn a_seen_token_loses_whatever_the_sign_of_its_logit() {
        assert_eq!(penalized(2.0), [1.5, -6.0, 3.0, -3.0, f32::NEG_INFINITY]);
    }

    #[test]
    fn a_penalty_below_one_rewards() {
        assert_eq!(penalized(0.5), [6.0, -1.5, 3.0, -3.0, f32::NEG_INFINITY]);
    }

    #[test]
    fn a_penalty_of_one_is_off() {
        assert_eq!(penalized(1.0), [3.0, -3.0, 3.0, -3.0, f32::NEG_INFINITY]);
    }
}
