//! How much arithmetic, and how much reading, a model takes at least.

/// Bytes of an f32.
const WEIGHT_BYTES: f64 = 4.0;

/// The sizes of a GPT that its arithmetic depends on.
///
/// Operations are counted by the usual convention ([PaLM](https://arxiv.org/abs/2204.02311), appendix B): six for
/// each weight and token of training, two without the backward pass, and for attention 12·L·T·Q for each token, with Q
/// the width of all queries, or 4·L·T·Q. Attention counts in full, as if no future were masked; weights are those of matrix products, the head's
/// among them, and of norms and biases none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Transformer blocks, L.
    pub n_layer: usize,
    /// Channels, C.
    pub n_embd: usize,
    /// Of the queries of all heads.
    pub queries: usize,
    /// Of the keys of all heads, and of their values.
    pub keys: usize,
    /// Of the hidden layer of a feed-forward network.
    pub n_inner: usize,
    /// Whether the hidden layer is made of two, as SwiGLU does.
    pub gated: bool,
    /// Tokens that the head tells apart.
    pub vocab_size: usize,
}

impl Sizes {
    /// Those of a model with GPT-2's parts.
    #[must_use]
    pub const fn gpt2(n_layer: usize, n_embd: usize, vocab_size: usize) -> Self {
        let n_inner = 4 * n_embd;
        Self { n_layer, n_embd, queries: n_embd, keys: n_embd, n_inner, gated: false, vocab_size }
    }

    /// Floating-point operations of a training step over `tokens` in sequences of `time`.
    #[must_use]
    pub fn train_flops(&self, tokens: usize, time: usize) -> f64 {
        tokens as f64
            * (6.0 * (self.block_weights() + self.head_weights()) + 3.0 * self.attention_flops(time as f64))
    }

    /// Floating-point operations of a step of Muon on the matrices of the blocks, as `kernels` makes it: four
    /// iterations of three products for one that is nearly square, and for a long one two products with it and
    /// thirteen of Gram matrices.
    #[must_use]
    pub fn muon_flops(&self) -> f64 {
        let matrix = |[a, b]: [usize; 2]| {
            let (short, long) = (a.min(b) as f64, a.max(b) as f64);
            let (with_it, gram) = (2.0 * short * short * long, 2.0 * short.powi(3));
            if 2.0 * long < 3.0 * short { 4.0 * (2.0 * with_it + gram) } else { 2.0 * with_it + 13.0 * gram }
        };
        self.n_layer as f64
            * self.matrices().into_iter().map(|(n, shape)| n as f64 * matrix(shape)).sum::<f64>()
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

    fn block_weights(&self) -> f64 {
        let weights = self.matrices().into_iter().map(|(n, [d_in, d_out])| (n * d_in * d_out) as f64);
        self.n_layer as f64 * weights.sum::<f64>()
    }

    /// The matrices of a block, and how many there are of each shape.
    fn matrices(&self) -> [(usize, [usize; 2]); 4] {
        let Self { n_embd, queries, keys, n_inner, gated, .. } = *self;
        [
            (2, [n_embd, queries]), // One makes queries, the other is behind them.
            (2, [n_embd, keys]),
            (1 + usize::from(gated), [n_embd, n_inner]),
            (1, [n_inner, n_embd]),
        ]
    }

    fn head_weights(&self) -> f64 {
        (self.vocab_size * self.n_embd) as f64
    }

    /// Of one token that sees `time` tokens, forward: its scores, and the sum that they weigh.
    fn attention_flops(&self, time: f64) -> f64 {
        4.0 * self.n_layer as f64 * time * self.queries as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPT2: Sizes = Sizes::gpt2(12, 768, 50_257);

    #[test]
    fn gpt2_reads_the_weights_of_its_matrices() {
        // 124.4M parameters, less 1024 · 768 positions and some 121 thousand of norms and biases.
        assert_eq!(GPT2.weight_bytes(), 4.0 * 123_532_032.0);
    }

    #[test]
    fn a_step_counts_weights_and_attention() {
        let sizes = Sizes::gpt2(6, 384, 65);
        let tokens = 8.0 * 256.0;
        let weights = 12.0 * 6.0 * 384.0 * 384.0 + 65.0 * 384.0;
        let attention = 12.0 * 6.0 * 256.0 * 384.0;
        assert_eq!(sizes.train_flops(8 * 256, 256), tokens * (6.0 * weights + attention));
    }

    #[test]
    fn muons_products_are_counted() {
        let one = Sizes::gpt2(1, 1, 1);
        // Queries, keys, values and what follows them: four times twelve. Two long ones: twice eight and thirteen.
        assert_eq!(one.muon_flops(), 2.0 * (4.0 * 12.0 + 2.0 * 21.0));
        assert_eq!(Sizes::gpt2(3, 2, 1).muon_flops(), 3.0 * 8.0 * one.muon_flops());
    }

    #[test]
    fn grouped_queries_and_gates_are_counted() {
        // SmolLM2-135M: 134,515,008 parameters, less the gains of 61 norms.
        let sizes =
            Sizes { queries: 576, keys: 192, n_inner: 1536, gated: true, ..Sizes::gpt2(30, 576, 49_152) };
        assert_eq!(sizes.weight_bytes(), 4.0 * (134_515_008.0 - 61.0 * 576.0));
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
