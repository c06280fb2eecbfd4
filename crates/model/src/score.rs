//! Log-probabilities of texts.

use burn::{module::Module, prelude::*};

use crate::Gpt;

/// Maximum number of logits of a batch of windows. The logits are never in memory together, so this bounds the
/// activations.
const MAX_LOGITS: usize = 1 << 24;

/// The log-probability of each token given the tokens before it, except the first token of each text.
///
/// A text longer than the block is scored with a sliding window that moves by `stride`. Each token is scored in the
/// first window that contains it, so every token past the first block has at least `block_size - stride` tokens of
/// context. Windows of all texts are processed in batches.
///
/// # Shapes
///
/// - `texts`: any number of ids each, below V
/// - output: for each text one value less than it has ids, or none for an empty text
///
/// # Panics
///
/// If `stride` is not between 1 and `block_size`.
pub fn score(model: &Gpt, texts: &[&[u32]], stride: usize) -> Vec<Vec<f32>> {
    let model = model.valid();
    let config = model.config();
    let block_size = config.block_size;
    assert!((1..=block_size).contains(&stride), "a stride of {stride} in a block of {block_size}");
    let mut windows: Vec<Window> = (texts.iter().enumerate())
        .flat_map(|(text, ids)| windows(text, ids.len().saturating_sub(1), block_size, stride))
        .collect();
    // Batches of similar length need little padding, which causal attention does not let earlier positions see.
    windows.sort_by_key(|window| std::cmp::Reverse(window.len()));

    let mut logprobs: Vec<Vec<f32>> =
        texts.iter().map(|ids| vec![0.0; ids.len().saturating_sub(1)]).collect();
    let mut rest = windows.as_slice();
    while let Some(longest) = rest.first() {
        let n = (MAX_LOGITS / (longest.len() * config.vocab_size)).clamp(1, rest.len());
        let (batch, others) = rest.split_at(n);
        let scored = score_batch(&model, texts, batch, longest.len());
        for (window, row) in batch.iter().zip(scored.chunks_exact(longest.len())) {
            let fresh = &row[window.fresh - window.start..window.len()];
            logprobs[window.text][window.fresh..window.end].copy_from_slice(fresh);
        }
        rest = others;
    }
    logprobs
}

/// Inputs `start..end` of a text. Those from `fresh` on are scored by this window, the others by an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    text: usize,
    start: usize,
    fresh: usize,
    end: usize,
}

impl Window {
    fn len(&self) -> usize {
        self.end - self.start
    }
}

/// The windows of a text with `n` inputs.
fn windows(text: usize, n: usize, block_size: usize, stride: usize) -> Vec<Window> {
    let mut windows = Vec::new();
    let mut fresh = 0;
    while fresh < n {
        let end = if fresh == 0 { n.min(block_size) } else { n.min(fresh + stride) };
        windows.push(Window { text, start: end.saturating_sub(block_size), fresh, end });
        fresh = end;
    }
    windows
}

/// The log-probability of the token after each input: `[windows, len]`, padded.
fn score_batch(model: &Gpt, texts: &[&[u32]], windows: &[Window], len: usize) -> Vec<f32> {
    let device = &model.devices()[0];
    let gather = |shift: usize| -> Tensor<2, Int> {
        let mut ids = Vec::with_capacity(windows.len() * len);
        for window in windows {
            let inputs = &texts[window.text][window.start + shift..window.end + shift];
            ids.extend(inputs.iter().map(|&id| i32::try_from(id).expect("token ids are below 2^31")));
            ids.resize(ids.len() + len - window.len(), 0);
        }
        Tensor::from_data(TensorData::new(ids, [windows.len(), len]), device)
    };
    model.logprobs(gather(0), gather(1)).into_data().try_into_vec().expect("log-probabilities are f32")
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "values in tests are small")]
mod tests {
    use burn::tensor::activation::log_softmax;

    use super::*;

    #[test]
    fn windows_score_each_token_once_with_enough_context() {
        for (block_size, stride) in [(1, 1), (2, 1), (7, 4), (8, 8), (8, 3)] {
            for n in 0..40 {
                let mut next = 0;
                for window in windows(0, n, block_size, stride) {
                    assert_eq!(window.fresh, next);
                    assert!(window.len() <= block_size && window.end > window.fresh);
                    assert!(window.fresh == 0 || window.fresh - window.start >= block_size - stride);
                    next = window.end;
                }
                assert_eq!(next, n);
            }
        }
    }

    #[test]
    fn score_agrees_with_one_forward_pass_per_token() {
        let device = kernels::testing::test_device();
        let config = crate::GptConfig::debug();
        let model = config.init(1, &device).unwrap();
        let text = |n: u32, step: u32| -> Vec<u32> { (0..n).map(|i| (i * i * step + 3) % 13).collect() };
        // Short texts are padded beside long ones.
        let texts = [text(30, 1), text(5, 2), text(0, 1), text(1, 1), text(19, 5)];
        let stride = config.block_size / 2;
        let scored = score(&model, &texts.each_ref().map(Vec::as_slice), stride);
        assert_eq!(scored.iter().map(Vec::len).collect::<Vec<_>>(), [29, 4, 0, 0, 18]);

        for (ids, scored) in texts.iter().zip(&scored) {
            for window in windows(0, ids.len().saturating_sub(1), config.block_size, stride) {
                for target in window.fresh + 1..=window.end {
                    let context: Vec<i32> = ids[window.start..target].iter().map(|&id| id as i32).collect();
                    let shape = [1, context.len()];
                    let logits = model.forward(Tensor::from_data(TensorData::new(context, shape), &device));
                    let last: Vec<f32> =
                        log_softmax(logits, 2).slice(s![.., -1.., ..]).into_data().try_into_vec().unwrap();
                    let (got, expected) = (scored[target - 1], last[ids[target] as usize]);
                    let close = (got - expected).abs() < kernels::testing::test_tolerance(1e-5);
                    assert!(close, "token {target}: {got} is not {expected}");
                }
            }
        }
    }
}
