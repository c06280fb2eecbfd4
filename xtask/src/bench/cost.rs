//! How much arithmetic, and how much reading, a measurement takes at least.

use super::case::{Case, Model, Work};

/// Bytes of an f32.
const WEIGHT_BYTES: f64 = 4.0;

/// Floating-point operations of one measurement, by the usual convention
/// ([PaLM](https://arxiv.org/abs/2204.02311), appendix B): six for each weight and token of training, two without
/// the backward pass, and for attention 12·L·T·C for each token, or 4·L·T·C. Attention counts in full, as if no
/// future were masked; weights are those of matrix products, the head's among them, and of norms and biases none.
pub(crate) fn flops(case: &Case) -> f64 {
    let model = &case.model;
    let tokens = case.tokens() as f64;
    let blocks = block_weights(model);
    let head = head_weights(case);
    match case.work {
        Work::Train => {
            tokens * (6.0 * (blocks + head) + 3.0 * attention_flops(model, model.block_size as f64))
        }
        // The head is asked for one token only.
        Work::Prefill => tokens * (2.0 * blocks + attention_flops(model, tokens)) + 2.0 * head,
        // On average over what is written, half of it is in the cache.
        Work::Decode => 2.0 * (blocks + head) + attention_flops(model, case.amount as f64 / 2.0),
    }
}

/// Bytes that writing one token has to read: every weight of the matrix products, once.
pub(crate) fn weight_bytes(case: &Case) -> f64 {
    WEIGHT_BYTES * (block_weights(&case.model) + head_weights(case))
}

/// 3C² for queries, keys and values, C² behind them, and twice 4C² in the feed-forward layer.
fn block_weights(model: &Model) -> f64 {
    12.0 * model.n_layer as f64 * (model.n_embd as f64).powi(2)
}

fn head_weights(case: &Case) -> f64 {
    (case.vocab_size * case.model.n_embd) as f64
}

/// Of one token that sees `time` tokens, forward: its scores, and the sum that they weigh.
fn attention_flops(model: &Model, time: f64) -> f64 {
    4.0 * model.n_layer as f64 * time * model.n_embd as f64
}

#[cfg(test)]
mod tests {
    use super::super::case::{Config, Precision};
    use super::*;

    fn case(work: Work, config: Config) -> Case {
        Case::new(work, config, Precision::F32)
    }

    #[test]
    fn gpt2_reads_the_weights_of_its_matrices() {
        // 124.4M parameters, less 1024 · 768 positions and some 121 thousand of norms and biases.
        assert_eq!(weight_bytes(&case(Work::Decode, Config::G)), 4.0 * 123_532_032.0);
    }

    #[test]
    fn a_step_counts_weights_and_attention() {
        let tokens = 8.0 * 256.0;
        let weights = 12.0 * 6.0 * 384.0 * 384.0 + 65.0 * 384.0;
        let attention = 12.0 * 6.0 * 256.0 * 384.0;
        assert_eq!(flops(&case(Work::Train, Config::M)), tokens * (6.0 * weights + attention));
    }

    #[test]
    fn a_prompt_takes_the_head_once_and_a_third_of_a_step() {
        let read = case(Work::Prefill, Config::L);
        let head = 2.0 * head_weights(&read);
        let forward = 512.0 * (2.0 * 84_934_656.0 + 4.0 * 12.0 * 512.0 * 768.0);
        assert_eq!(flops(&read), forward + head);
    }
}
