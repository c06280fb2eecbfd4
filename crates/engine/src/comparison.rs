//! The difference between two models on a text, such as a quantised model and its original.

use std::time::{Duration, Instant};

use kernels::on_pool;
use model::{Decoder, Gpt, LogitRows, Piece};
use rayon::prelude::*;
use serde::Serialize;

use crate::score::mean;

/// Maximum number of tokens in a window. A longer block changes the difference little and takes more time.
const MAX_WINDOW: usize = 1024;

/// Tokens of a piece, whose logits are in memory together.
const PIECE: usize = 64;

/// The difference between a model and a reference, both with the same vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Comparison {
    /// The perplexity of the model.
    pub perplexity: f64,
    pub reference_perplexity: f64,
    /// The mean of the KL divergence of the model's next-token distribution from that of the reference, in nats.
    pub kl_divergence: f64,
    /// 99 % of the tokens have at most this KL divergence.
    pub kl_divergence_99: f64,
    /// The share of tokens for which both models rank the same token first.
    pub same_first: f64,
    /// Predicted tokens.
    pub tokens: usize,
    /// Length of the windows of text, which do not overlap.
    pub window: usize,
}

/// The difference for one predicted token.
#[derive(Debug, Clone, Copy)]
struct Difference {
    logprob: f32,
    reference_logprob: f32,
    kl_divergence: f32,
    is_same_first: bool,
}

impl Comparison {
    /// Compares a model with `reference` on the first `n_tokens` predictions of a text. The text is cut into windows of the
    /// block size, at most 1024 tokens, and a token sees only the tokens of its window. After `max_time` no window is begun.
    ///
    /// `None` for a text of fewer than two tokens.
    ///
    /// # Panics
    ///
    /// If the models differ in their vocabulary or block size.
    pub fn of(
        model: &Gpt,
        reference: &Gpt,
        ids: &[u32],
        n_tokens: usize,
        max_time: Duration,
    ) -> Option<Self> {
        let sizes = |gpt: &Gpt| (gpt.config().vocab_size, gpt.config().block_size);
        assert_eq!(sizes(model), sizes(reference), "the models have other vocabularies or block sizes");
        let window = reference.config().block_size.min(MAX_WINDOW);
        let n_tokens = n_tokens.min(ids.len().saturating_sub(1));
        let decoders = [model, reference].map(Decoder::new);
        let (start, mut differences) = (Instant::now(), Vec::with_capacity(n_tokens));
        while differences.len() < n_tokens && (differences.is_empty() || start.elapsed() < max_time) {
            let first = differences.len();
            let n = window.min(n_tokens - first);
            differences.extend(on_pool(|| compare_window(&decoders, &ids[first..=first + n])));
        }
        let mut divergences: Vec<f32> = differences.iter().map(|token| token.kl_divergence).collect();
        divergences.sort_unstable_by(f32::total_cmp);
        let rank_99 = (divergences.len() * 99).div_ceil(100).saturating_sub(1);
        let n_same = differences.iter().filter(|token| token.is_same_first).count();
        Some(Self {
            perplexity: (-mean(differences.iter().map(|token| token.logprob))?).exp(),
            reference_perplexity: (-mean(differences.iter().map(|token| token.reference_logprob))?).exp(),
            kl_divergence: mean(divergences.iter().copied())?,
            kl_divergence_99: f64::from(*divergences.get(rank_99)?),
            same_first: n_same as f64 / differences.len() as f64,
            tokens: differences.len(),
            window,
        })
    }
}

/// The differences for all ids of a window but the first.
fn compare_window(decoders: &[Decoder; 2], ids: &[u32]) -> Vec<Difference> {
    let mut contexts = decoders.each_ref().map(Decoder::context);
    let (inputs, targets) = (&ids[..ids.len() - 1], &ids[1..]);
    let mut differences = Vec::with_capacity(targets.len());
    for (inputs, targets) in inputs.chunks(PIECE).zip(targets.chunks(PIECE)) {
        let [logits, reference] = [0, 1].map(|side: usize| -> Vec<f32> {
            let context = &mut contexts[side];
            context.push(inputs);
            let piece = Piece { context, n: inputs.len(), logits: LogitRows::All };
            let logits = decoders[side].process(vec![piece]).expect("all rows are wanted");
            logits.into_data().convert::<f32>().try_into_vec().expect("it was converted to f32")
        });
        let vocab_size = logits.len() / targets.len();
        let rows = logits.par_chunks_exact(vocab_size).zip(reference.par_chunks_exact(vocab_size));
        let row = |((logits, reference), &target): ((&[f32], &[f32]), &u32)| {
            difference(logits, reference, target as usize)
        };
        let found: Vec<Difference> = rows.zip(targets).map(row).collect();
        differences.extend(found);
    }
    differences
}

/// The difference of two rows of logits. With the log-probabilities a of the reference and b of the model, the KL
/// divergence is `Σ exp(a) (a - b)`.
fn difference(logits: &[f32], reference: &[f32], target: usize) -> Difference {
    let [(first, normalizer), (reference_first, reference_normalizer)] = [logits, reference].map(log_sum_exp);
    let shift = normalizer - reference_normalizer;
    let mut divergence = 0.0_f64;
    for (&logit, &reference) in logits.iter().zip(reference) {
        let prob = (reference - reference_normalizer).exp();
        divergence += f64::from(prob * (reference - logit + shift));
    }
    #[expect(clippy::cast_possible_truncation, reason = "a divergence is a small number")]
    let kl_divergence = divergence.max(0.0) as f32; // Rounding may make it negative.
    Difference {
        logprob: logits[target] - normalizer,
        reference_logprob: reference[target] - reference_normalizer,
        kl_divergence,
        is_same_first: first == reference_first,
    }
}

/// The index of the largest logit, and the logarithm of the sum of the exponentials.
fn log_sum_exp(logits: &[f32]) -> (usize, f32) {
    let (mut first, mut largest) = (0, f32::NEG_INFINITY);
    for (idx, &logit) in logits.iter().enumerate() {
        if logit > largest {
            (first, largest) = (idx, logit);
        }
    }
    let sum: f64 = logits.iter().map(|&logit| f64::from((logit - largest).exp())).sum();
    #[expect(clippy::cast_possible_truncation, reason = "as exact as the logits")]
    let normalizer = largest + sum.ln() as f32;
    (first, normalizer)
}

#[cfg(test)]
mod tests {
    use model::GptConfig;

    use super::*;

    const FOREVER: Duration = Duration::MAX;

    fn gpt(seed: u64) -> Gpt {
        GptConfig::debug().init(seed, &kernels::testing::test_device()).unwrap()
    }

    fn ids(n: u32) -> Vec<u32> {
        (0..n).map(|idx| (idx * idx + 3) % 13).collect()
    }

    #[test]
    fn a_model_does_not_differ_from_itself() {
        let (gpt, ids) = (gpt(1), ids(30));
        let found = Comparison::of(&gpt, &gpt, &ids, 100, FOREVER).unwrap();
        assert_eq!((found.tokens, found.window), (29, gpt.config().block_size));
        assert_eq!(found.perplexity, found.reference_perplexity);
        assert!(found.kl_divergence < 1e-6 && found.kl_divergence_99 < 1e-6, "{found:?}");
        assert_eq!(found.same_first, 1.0);
    }

    #[test]
    fn perplexities_are_those_of_windows_without_overlap() {
        let (model, reference, ids) = (gpt(1), gpt(2), ids(30));
        let block_size = model.config().block_size;
        let found = Comparison::of(&model, &reference, &ids, 100, FOREVER).unwrap();
        for (gpt, found) in [(&model, found.perplexity), (&reference, found.reference_perplexity)] {
            // Each window is a text of its own.
            let texts: Vec<&[u32]> = (0..29)
                .step_by(block_size)
                .map(|start| &ids[start..(start + block_size + 1).min(30)])
                .collect();
            let logprobs = model::score(gpt, &texts, block_size).concat();
            assert_eq!(logprobs.len(), 29);
            let expected = (-mean(logprobs.into_iter()).unwrap()).exp();
            assert!((found / expected - 1.0).abs() < 1e-4, "{found} is not {expected}");
        }
        assert!(found.kl_divergence > 1e-6 && found.kl_divergence_99 >= found.kl_divergence, "{found:?}");
    }

    #[test]
    fn the_divergence_is_that_of_the_definition() {
        let (logits, reference) = ([0.5_f32, 2.0, -1.0], [1.0_f32, 1.5, 0.0]);
        let probs = |logits: [f32; 3]| {
            let exps = logits.map(|logit| f64::from(logit).exp());
            exps.map(|x| x / exps.iter().sum::<f64>())
        };
        let (q, p) = (probs(logits), probs(reference));
        let expected: f64 = p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum();
        let found = difference(&logits, &reference, 2);
        assert!((f64::from(found.kl_divergence) - expected).abs() < 1e-6, "{found:?}");
        assert!((f64::from(found.logprob) - q[2].ln()).abs() < 1e-6);
        assert!((f64::from(found.reference_logprob) - p[2].ln()).abs() < 1e-6);
        assert!(found.is_same_first);
        let other = difference(&[3.0, 2.0, 1.0], &[1.0, 1.5, 0.0], 0);
        assert!(!other.is_same_first);
    }

    #[test]
    fn tokens_and_time_are_bounded() {
        let (gpt, ids) = (gpt(1), ids(30));
        let n_tokens =
            |n: usize, time: Duration| Comparison::of(&gpt, &gpt, &ids, n, time).map(|it| it.tokens);
        assert_eq!(n_tokens(5, FOREVER), Some(5));
        assert_eq!(
            n_tokens(100, Duration::ZERO),
            Some(gpt.config().block_size),
            "one window is always compared"
        );
        assert_eq!(n_tokens(0, FOREVER), None);
        assert_eq!(Comparison::of(&gpt, &gpt, &ids[..1], 9, FOREVER), None);
    }
}
