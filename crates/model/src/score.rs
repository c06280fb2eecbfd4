//! How likely a model finds a text.

use burn::{module::Module, prelude::*, tensor::activation::log_softmax};

use crate::Gpt;

/// Logits held at once while scoring, as numbers: 64 MiB of f32.
const MAX_LOGITS: usize = 1 << 24;

/// The natural logarithm of the probability of each token given those before it: of all but the first.
///
/// A text longer than the block is read through a window that moves by half a block, and each token is
/// scored in the first window that reaches it, so every token past the first block has at least half a
/// block of context. Windows are read in batches.
///
/// # Shapes
///
/// - `ids`: N of them, each below V
/// - output: N - 1, or none for an empty text
pub fn score(model: &Gpt, ids: &[u32]) -> Vec<f32> {
    let model = model.valid();
    let config = model.config();
    let windows = windows(ids.len().saturating_sub(1), config.block_size);
    let batch_size = (MAX_LOGITS / (config.block_size * config.vocab_size)).max(1);

    let mut logprobs = Vec::with_capacity(ids.len());
    // All but the first and the last window are alike; runs of equal length make a batch.
    let mut rest = windows.as_slice();
    while let Some(first) = rest.first() {
        let len = first.end - first.start;
        let alike =
            rest.iter().take(batch_size).take_while(|window| window.end - window.start == len).count();
        let (batch, others) = rest.split_at(alike);
        let scored = score_batch(&model, ids, batch, len);
        for (window, row) in batch.iter().zip(scored.chunks_exact(len)) {
            logprobs.extend_from_slice(&row[window.fresh - window.start..]);
        }
        rest = others;
    }
    logprobs
}

/// Inputs `start..end` of a text, of which those from `fresh` on have not been scored by an earlier window.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    start: usize,
    fresh: usize,
    end: usize,
}

/// The windows over `n` inputs.
fn windows(n: usize, block_size: usize) -> Vec<Window> {
    let stride = block_size.div_ceil(2);
    let mut windows = Vec::new();
    let mut fresh = 0;
    while fresh < n {
        let end = if fresh == 0 { n.min(block_size) } else { n.min(fresh + stride) };
        windows.push(Window { start: end.saturating_sub(block_size), fresh, end });
        fresh = end;
    }
    windows
}

/// The log-probability of the token after each input, window after window.
fn score_batch(model: &Gpt, ids: &[u32], windows: &[Window], len: usize) -> Vec<f32> {
    let device = &model.devices()[0];
    let signed = |id: &u32| i32::try_from(*id).expect("a vocabulary has less than 2^31 tokens");
    let gather = |shift: usize| -> Tensor<2, Int> {
        let ids: Vec<i32> =
            windows.iter().flat_map(|w| ids[w.start + shift..w.end + shift].iter().map(signed)).collect();
        Tensor::from_data(TensorData::new(ids, [windows.len(), len]), device)
    };
    let logits = model.forward(gather(0)); // [B, T, V]
    let targets = gather(1).unsqueeze_dim::<3>(2); // [B, T, 1]
    let logprobs = log_softmax(logits, 2).gather(2, targets);
    logprobs.into_data().try_into_vec().expect("logits are f32")
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "the numbers of tests are small")]
mod tests {
    use super::*;

    #[test]
    fn windows_score_each_token_once_with_half_a_block_of_context() {
        for block_size in [1, 2, 7, 8] {
            for n in 0..40 {
                let mut next = 0;
                for window in windows(n, block_size) {
                    assert_eq!(window.fresh, next);
                    assert!(window.end - window.start <= block_size && window.end > window.fresh);
                    assert!(window.fresh == 0 || window.fresh - window.start >= block_size / 2);
                    next = window.end;
                }
                assert_eq!(next, n);
            }
        }
    }

    #[test]
    fn agrees_with_one_forward_pass_for_each_token() {
        let device = kernels::test_device();
        let config = crate::GptConfig::debug();
        let model = config.init(1, &device).unwrap();
        let ids: Vec<u32> = (0..30).map(|i| (i * i + 3) % 13).collect();
        let scored = score(&model, &ids);
        assert_eq!(scored.len(), ids.len() - 1);

        for window in windows(ids.len() - 1, config.block_size) {
            for target in window.fresh + 1..=window.end {
                let context: Vec<i32> = ids[window.start..target].iter().map(|&id| id as i32).collect();
                let shape = [1, context.len()];
                let logits = model.forward(Tensor::from_data(TensorData::new(context, shape), &device));
                let last: Vec<f32> =
                    log_softmax(logits, 2).slice(s![.., -1.., ..]).into_data().try_into_vec().unwrap();
                let expected = last[ids[target] as usize];
                let got = scored[target - 1];
                assert!((got - expected).abs() < 1e-5, "token {target}: {got} is not {expected}");
            }
        }
    }

    #[test]
    fn short_texts_have_nothing_to_score() {
        let model = crate::GptConfig::debug().init(1, &kernels::test_device()).unwrap();
        assert!(score(&model, &[]).is_empty());
        assert!(score(&model, &[3]).is_empty());
    }
}
