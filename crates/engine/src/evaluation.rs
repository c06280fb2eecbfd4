//! Loss, perplexity and bits per byte of a text.

use std::f64::consts::LN_2;

use model::Gpt;
use serde::Serialize;
use tokenizer::Tokenizer;

use crate::{
    Result,
    score::{logprobs, mean},
};

/// A text to measure a model on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredText {
    /// Its tokens.
    pub ids: Vec<u32>,
    /// Its bytes.
    pub n_bytes: u64,
    /// Those of its bytes that the first token stands for, which is not predicted.
    pub first_bytes: u64,
}

/// How well a model predicts a text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Evaluation {
    /// The mean loss, in nats per token.
    pub loss: f64,
    /// e to the loss.
    pub perplexity: f64,
    /// Bits that the predicted tokens take together, for each byte that they stand for.
    pub bits_per_byte: f64,
    /// Tokens that were predicted: all but the first.
    pub tokens: usize,
    /// Bytes of the text.
    pub bytes: u64,
}

impl MeasuredText {
    /// A text that was tokenized before, as a part of a corpus is.
    pub fn tokenized(tokenizer: &Tokenizer, ids: Vec<u32>, n_bytes: u64) -> Self {
        let first = ids.first().and_then(|&id| tokenizer.token_bytes(id));
        Self { first_bytes: first.map_or(0, |bytes| bytes.len() as u64), ids, n_bytes }
    }

    /// Encodes a text. Where the tokenizer has an EOS token, each `separator` becomes one, and its bytes do not count.
    ///
    /// # Errors
    ///
    /// If the tokenizer lacks a character of the text.
    pub fn encode(tokenizer: &Tokenizer, text: &str, separator: Option<&str>) -> Result<Self> {
        let (ids, n_bytes) = match (separator, tokenizer.end_of_text()) {
            (Some(separator), Some(end)) => {
                let (mut ids, mut n_bytes) = (tokenizer.beginning().to_vec(), 0);
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
        // A BOS token stands for no byte of the text.
        Ok(if tokenizer.beginning().is_empty() { text } else { Self { first_bytes: 0, ..text } })
    }
}

impl Evaluation {
    /// Measures a model on a text, through a window that moves by `stride` tokens. `None` for a text of less than two tokens.
    ///
    /// # Panics
    ///
    /// If `stride` is not between 1 and the block size.
    pub fn of(gpt: &Gpt, text: MeasuredText, stride: usize) -> Option<Self> {
        let MeasuredText { ids, n_bytes, first_bytes } = text;
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
        let whole = MeasuredText::encode(&gpt2, "Hello there.|Hello", None).unwrap();
        assert_eq!((whole.n_bytes, whole.first_bytes), (18, 5));
        let divided = MeasuredText::encode(&gpt2, "Hello there.|Hello", Some("|")).unwrap();
        assert_eq!((divided.n_bytes, divided.first_bytes), (17, 5));
        assert_eq!(
            divided.ids,
            [gpt2.encode("Hello there.").unwrap(), vec![50_256], gpt2.encode("Hello").unwrap()].concat()
        );
        let characters = Tokenizer::from_chars("ab|".chars()).unwrap();
        let text = MeasuredText::encode(&characters, "a|b", Some("|")).unwrap();
        assert_eq!((text.ids.len(), text.n_bytes), (3, 3), "there is no EOS token to become");
    }

    #[test]
    fn the_measures_are_one_loss_in_three_units() {
        let tokenizer = Tokenizer::from_chars("abcdefghijkl\u{e9}".chars()).unwrap();
        let gpt = GptConfig::debug().init(7, &kernels::testing::test_device()).unwrap();
        let text = MeasuredText::encode(&tokenizer, "\u{e9}abc", None).unwrap();
        assert_eq!((text.n_bytes, text.first_bytes), (5, 2));
        let found = Evaluation::of(&gpt, text.clone(), 4).unwrap();
        let logprobs = model::score(&gpt, &[&text.ids], 4).remove(0);
        let nats: f64 = -logprobs.iter().map(|&value| f64::from(value)).sum::<f64>();
        assert_eq!((found.tokens, found.bytes), (3, 5));
        assert!((found.loss - nats / 3.0).abs() < 1e-9);
        assert!((found.perplexity - (nats / 3.0).exp()).abs() < 1e-9);
        assert!((found.bits_per_byte - nats / LN_2 / 3.0).abs() < 1e-9, "three bytes are predicted");
        assert_eq!(Evaluation::of(&gpt, MeasuredText { ids: vec![1], ..text }, 4), None);
    }
}
