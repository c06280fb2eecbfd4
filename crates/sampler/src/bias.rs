use std::collections::BTreeMap;

use crate::{Error, Result};

/// Adds a bias to the logit of each token in `bias`, as OpenAI's `logit_bias` does.
///
/// A logit of -inf stays -inf.
///
/// # Errors
///
/// [`Error::UnknownBiasToken`] for the lowest id without a logit.
pub fn add_logit_bias(logits: &mut [f32], bias: &BTreeMap<u32, f32>) -> Result<()> {
    let vocab_size = logits.len();
    for (&id, &bias) in bias {
        let logit = logits.get_mut(id as usize).ok_or(Error::UnknownBiasToken { id, vocab_size })?;
        *logit += bias;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bias_is_added_to_its_token_only() {
        let mut logits = [3.0, -3.0, 0.5, f32::NEG_INFINITY, f32::MAX];
        add_logit_bias(&mut logits, &BTreeMap::from([(0, -100.0), (1, 0.25), (3, 100.0), (4, 100.0)]))
            .unwrap();
        assert_eq!(logits, [-97.0, -2.75, 0.5, f32::NEG_INFINITY, f32::MAX]);
    }

    #[test]
    fn error_names_an_id_outside_the_vocabulary() {
        let error = add_logit_bias(&mut [0.0; 4], &BTreeMap::from([(3, 1.0), (4, 1.0), (9, 1.0)]));
        let message = error.unwrap_err().to_string();
        assert!(message.starts_with("logit_bias names token 4, but"), "{message}");
        assert!(message.contains("vocabulary of 4 tokens"), "{message}");
    }
}
