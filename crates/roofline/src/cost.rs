//! How much arithmetic, and how much reading, a model takes at least.

/// Bytes of an f32.
const WEIGHT_BYTES: f64 = 4.0;

/// The sizes of a GPT that its arithmetic depends on.
///
/// Operations are counted by the usual convention ([PaLM](https://arxiv.org/abs/2204.02311), appendix B): six for
/// each weight and token of training, two without the backward pass, and for attention 12·L·T·C for each token, or
/// 4·L·T·C. Attention counts in full, as if no future were masked; weights are those of matrix products, the head's
/// among them, and of norms and biases none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Transformer blocks, L.
    pub n_layer: usize,
    /// Channels, C.
    pub n_embd: usize,
    /// Tokens that the head tells apart.
    pub vocab_size: usize,
}

impl Sizes {
    /// Floating-point operations of a training step over `tokens` in sequences of `time`.
    #[must_use]
    pub fn train_flops(&self, tokens: usize, time: usize) -> f64 {
        tokens as f64
            * (6.0 * (self.block_weights() + self.head_weights()) + 3.0 * self.attention_flops(time as f64))
    }

    /// Floating-point operations of a step of Muon on the matrices of the blocks, as `kernels` makes it: four
    /// iterations of three products for a square one, and for a long one of four times the width two products with
    /// it and thirteen of Gram matrices.
    #[must_use]
    pub fn muon_flops(&self) -> f64 {
        let product = 2.0 * (self.n_embd as f64).powi(3);
        let (square, long) = (4.0 * 3.0 * product, (2.0 * 4.0 + 13.0) * product);
        self.n_layer as f64 * (4.0 * square + 2.0 * long)
    }

    /// Floating-point operations of reading a prompt, up to the logits of the one token after it.
    #[must_use]
    pub fn prefill_flops(&self, tokens: usize) -> f64 {
        let tokens = tokens as f64;
        tokens * (2.0 * self.block_weights() + self.attention_flops(tokens)) + 2.0 * self.head_weights()
    }

    /// Floating-point operations of writing one token behind `n_cached` others.
    #[must_use]
    pub fn decode_flops(&self, n_cached: f64) -> f64 {
        2.0 * (self.block_weights() + self.head_weights()) + self.attention_flops(n_cached)
    }

    /// Bytes that writing one token has to read: every weight of the matrix products, once, as an f32.
    #[must_use]
    pub fn weight_bytes(&self) -> f64 {
        WEIGHT_BYTES * (self.block_weights() + self.head_weights())
    }

    /// 3C² for queries, keys and values, C² behind them, and twice 4C² in the feed-forward layer.
    fn block_weights(&self) -> f64 {
        12.0 * self.n_layer as f64 * (self.n_embd as f64).powi(2)
    }

    fn head_weights(&self) -> f64 {
        (self.vocab_size * self.n_embd) as f64
    }

    /// Of one token that sees `time` tokens, forward: its scores, and the sum that they weigh.
    fn attention_flops(&self, time: f64) -> f64 {
        4.0 * self.n_layer as f64 * time * self.n_embd as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPT2: Sizes = Sizes { n_layer: 12, n_embd: 768, vocab_size: 50_257 };

    #[test]
    fn gpt2_reads_the_weights_of_its_matrices() {
        // 124.4M parameters, less 1024 · 768 positions and some 121 thousand of norms and biases.
        assert_eq!(GPT2.weight_bytes(), 4.0 * 123_532_032.0);
    }

    #[test]
    fn a_step_counts_weights_and_attention() {
        let sizes = Sizes { n_layer: 6, n_embd: 384, vocab_size: 65 };
        let tokens = 8.0 * 256.0;
        let weights = 12.0 * 6.0 * 384.0 * 384.0 + 65.0 * 384.0;
        let attention = 12.0 * 6.0 * 256.0 * 384.0;
        assert_eq!(sizes.train_flops(8 * 256, 256), tokens * (6.0 * weights + attention));
    }

    #[test]
    fn muons_products_are_counted() {
        let one = Sizes { n_layer: 1, n_embd: 1, vocab_size: 1 };
        // Queries, keys, values and what follows them: four times twelve. Two long ones: twice eight and thirteen.
        assert_eq!(one.muon_flops(), 2.0 * (4.0 * 12.0 + 2.0 * 21.0));
        assert_eq!(Sizes { n_layer: 3, n_embd: 2, ..one }.muon_flops(), 3.0 * 8.0 * one.muon_flops());
    }

    #[test]
    fn a_prompt_takes_the_head_once_and_a_third_of_a_step() {
        let head = 2.0 * GPT2.head_weights();
        let forward = 512.0 * (2.0 * 84_934_656.0 + 4.0 * 12.0 * 512.0 * 768.0);
        assert_eq!(GPT2.prefill_flops(512), forward + head);
    }

    #[test]
    fn a_token_sees_what_is_cached() {
        let alone = GPT2.decode_flops(0.0);
        assert_eq!(alone, 2.0 * 123_532_032.0);
        assert_eq!(GPT2.decode_flops(10.0) - alone, 4.0 * 12.0 * 10.0 * 768.0);
    }
}
