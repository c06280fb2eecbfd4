//! Loss, perplexity and bits per byte of a text.

use std::f64::consts::LN_2;

use model::Gpt;
use serde::Serialize;
use tokenizer::Tokenizer;

use crate::{
    Result,
    score::{logprobs, mean},
};

/// A text to evaluate a model on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluationText {
    pub ids: Vec<u32>,
    pub n_bytes: u64,
    /// Bytes of the first token, which is not predicted.
    pub first_bytes: u64,
}

/// Loss, perplexity and bits per byte of a text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Evaluation {
    /// Mean cross-entropy loss, in nats per token.
    pub loss: f64,
    /// `exp(loss)`
    pub perplexity: f64,
    /// Total loss of the predicted tokens in bits, divided by their bytes.
    pub bits_per_byte: f64,
    /// Predicted tokens: all except the first.
    pub tokens: usize,
    /// Bytes of the whole text.
    pub bytes: u64,
}

impl EvaluationText {
    /// A text that is already tokenized, such as the validation part of a corpus.
    pub fn tokenized(tokenizer: &Tokenizer, ids: Vec<u32>, n_bytes: u64) -> Self {
        let first = ids.first().and_then(|&id| tokenizer.token_bytes(id));
        Self { first_bytes: first.map_or(0, |bytes| bytes.len() as u64), ids, n_bytes }
    }

    /// Encodes a text. If the tokenizer has an EOS token, it replaces each `separator`, whose bytes do not count.
    ///
    /// # Errors
    ///
    /// If the tokenizer lacks a character of the text.
    pub fn encode(tokenizer: &Tokenizer, text: &str, separator: Option<&str>) -> Result<Self> {
        let (ids, n_bytes) = match (separator, tokenizer.end_of_text()) {
            (Some(separator), Some(end)) => {
                let (mut ids, mut n_bytes) = (tokenizer.prompt_prefix().to_vec(), 0);
                for (idx, document) in text.split(separator).enumerate() {
                    ids.extend((idx > 0).then_some(end));
                    ids.extend(tokenizer.encode(document)?);
                    n_bytes += document.len() as u64;
                }
                (ids, n_bytes)
            }
            _ => (tokenizer.encode_text(text)?, text.len() as u64),
        };
        let text = Self::tokenized(tokenizer, ids, n_bytes);
        // A BOS token has no bytes.
        Ok(if tokenizer.prompt_prefix().is_empty() { text } else { Self { first_bytes: 0, ..text } })
    }
}

impl Evaluation {
    /// Evaluates a model on a text with a sliding window that moves by `stride` tokens. `None` for a text of fewer than
    /// two tokens.
    ///
    /// # Panics
    ///
    /// If `stride` is not between 1 and the block size.
    pub fn of(gpt: &Gpt, text: EvaluationText, stride: usize) -> Option<Self> {
        let EvaluationText { ids, n_bytes, first_bytes } = text;
        let logprobs = logprobs(gpt, &[ids], stride).remove(0);
        let loss = -mean(logprobs.iter().copied())?;
        let total_bits = loss * logprobs.len() as f64 / LN_2;
        Some(Self {
            loss,
            perplexity: loss.exp(),
            bits_per_byte: total_bits / n_bytes.saturating_sub(first_bytes).max(1) as f64,
            tokens: logprobs.len(),
            bytes: n_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use model::GptConfig;

    use super::*;

    #[test]
    fn bytes_of_the_first_token_and_of_separators_do_not_count() {
        let gpt2 = Tokenizer::gpt2();
        let whole = EvaluationText::encode(&gpt2, "Hello there.|Hello", None).unwrap();
        assert_eq!((whole.n_bytes, whole.first_bytes), (18, 5));
        let divided = EvaluationText::encode(&gpt2, "Hello there.|Hello", Some("|")).unwrap();
        assert_eq!((divided.n_bytes, divided.first_bytes), (17, 5));
        assert_eq!(
            divided.ids,
            [gpt2.encode("Hello there.").unwrap(), vec![50_256], gpt2.encode("Hello").unwrap()].concat()
        );
        let characters = Tokenizer::from_chars("ab|".chars()).unwrap();
        let text = EvaluationText::encode(&characters, "a|b", Some("|")).unwrap();
        assert_eq!((text.ids.len(), text.n_bytes), (3, 3), "the tokenizer has no EOS token");
    }

    #[test]
    fn perplexity_and_bits_per_byte_follow_from_the_loss() {
        let tokenizer = Tokenizer::from_chars("abcdefghijkl\u{e9}".chars()).unwrap();
        let gpt = GptConfig::debug().init(7, &kernels::testing::test_device()).unwrap();
        let text = EvaluationText::encode(&tokenizer, "\u{e9}abc", None).unwrap();
        assert_eq!((text.n_bytes, text.first_bytes), (5, 2));
        let found = Evaluation::of(&gpt, text.clone(), 4).unwrap();
        let logprobs = model::score(&gpt, &[&text.ids], 4).remove(0);
        let nats: f64 = -logprobs.iter().map(|&value| f64::from(value)).sum::<f64>();
        assert_eq!((found.tokens, found.bytes), (3, 5));
        assert!((found.loss - nats / 3.0).abs() < 1e-9);
        assert!((found.perplexity - (nats / 3.0).exp()).abs() < 1e-9);
        assert!((found.bits_per_byte - nats / LN_2 / 3.0).abs() < 1e-9, "three bytes are predicted");
        assert_eq!(Evaluation::of(&gpt, EvaluationText { ids: vec![1], ..text }, 4), None);
    }
}
