//! Log-probabilities of the tokens of texts.

use model::Gpt;
use tokenizer::Tokenizer;

use crate::{Error, Result};

/// A text with the log-probabilities of its tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredText {
    pub ids: Vec<u32>,
    /// The text of each token, with incomplete characters replaced by U+FFFD.
    pub tokens: Vec<String>,
    /// The log-probability of each token given the tokens before it; `None` for the first.
    pub logprobs: Vec<Option<f32>>,
}

impl ScoredText {
    /// The mean log-probability; `None` for fewer than two tokens.
    pub fn mean_logprob(&self) -> Option<f64> {
        mean(self.logprobs.iter().flatten().copied())
    }
}

/// The stride of the sliding window over a long text: `stride`, or half the block by default.
///
/// # Errors
///
/// [`Error::Stride`] if it is 0 or above the block size.
pub fn window_stride(stride: Option<usize>, block_size: usize) -> Result<usize> {
    match stride {
        None => Ok(block_size.div_ceil(2)),
        Some(stride) if (1..=block_size).contains(&stride) => Ok(stride),
        Some(stride) => Err(Error::Stride { stride, block_size }),
    }
}

/// Scores texts in batches. A text longer than the block is scored with a sliding window that moves by `stride` tokens,
/// as in [`model::score`].
///
/// # Panics
///
/// If `stride` is not between 1 and the block size.
pub fn score_texts(gpt: &Gpt, tokenizer: &Tokenizer, texts: Vec<Vec<u32>>, stride: usize) -> Vec<ScoredText> {
    let scored = logprobs(gpt, &texts, stride);
    let token = |id: &u32| match tokenizer.token_bytes(*id) {
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => tokenizer.decode(&[*id]),
    };
    let score = |(ids, scored): (Vec<u32>, Vec<f32>)| ScoredText {
        tokens: ids.iter().map(token).collect(),
        logprobs: ids.first().map(|_| None).into_iter().chain(scored.into_iter().map(Some)).collect(),
        ids,
    };
    texts.into_iter().zip(scored).map(score).collect()
}

/// The log-probabilities of all tokens of each text, except the first.
pub(crate) fn logprobs(gpt: &Gpt, texts: &[Vec<u32>], stride: usize) -> Vec<Vec<f32>> {
    let slices: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    kernels::on_pool(|| model::score(gpt, &slices, stride))
}

/// `None` without values.
pub(crate) fn mean(values: impl Iterator<Item = f32>) -> Option<f64> {
    let (mut sum, mut n) = (0.0, 0_usize);
    for value in values {
        sum += f64::from(value);
        n += 1;
    }
    (n > 0).then(|| sum / n as f64)
}

#[cfg(test)]
mod tests {
    use model::GptConfig;

    use super::*;

    #[test]
    fn the_first_token_has_no_score() {
        let tokenizer = Tokenizer::from_chars("abcdefghijklm".chars()).unwrap();
        let gpt = GptConfig::debug().init(7, &kernels::testing::test_device()).unwrap();
        let texts = ["abcab", "c", ""].map(|text| tokenizer.encode(text).unwrap());
        let [long, single, empty] = score_texts(&gpt, &tokenizer, texts.to_vec(), 4).try_into().unwrap();
        assert_eq!(long.tokens.concat(), "abcab");
        let expected = model::score(&gpt, &[&long.ids], 4).remove(0);
        assert_eq!(long.logprobs.iter().flatten().copied().collect::<Vec<_>>(), expected);
        assert_eq!((long.logprobs[0], long.logprobs.len()), (None, 5));
        let sum: f64 = expected.iter().map(|&value| f64::from(value)).sum();
        assert_eq!(long.mean_logprob(), Some(sum / 4.0));
        assert_eq!((single.logprobs.as_slice(), single.mean_logprob()), (&[None][..], None));
        assert_eq!((empty.logprobs.len(), empty.mean_logprob()), (0, None));
    }

    #[test]
    fn the_default_stride_is_half_a_block() {
        assert_eq!(window_stride(None, 7).unwrap(), 4);
        assert_eq!(window_stride(Some(7), 7).unwrap(), 7);
        for wrong in [0, 8] {
            assert!(window_stride(Some(wrong), 7).unwrap_err().is_malformed_request());
        }
    }
}
