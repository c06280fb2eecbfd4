//! The minimum floating-point operations and memory traffic of a model.

/// Bytes per f32.
const WEIGHT_BYTES: f64 = 4.0;

/// The sizes of a GPT that determine its cost.
///
/// Operations are counted by the usual convention ([PaLM](https://arxiv.org/abs/2204.02311), appendix B). Each weight
/// and token takes 6 operations in training, and 2 without the backward pass. Attention takes 12·L·T·Q per token in
/// training, and 4·L·T·Q without the backward pass, where Q is the width of all queries. The causal mask saves nothing.
/// Weights are the matrices of linear layers and of the output head, without norms and biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Transformer blocks, L.
    pub n_layer: usize,
    /// Channels, C.
    pub n_embd: usize,
    /// Channels of all query heads, Q.
    pub queries: usize,
    /// Channels of all key heads; the same for values.
    pub keys: usize,
    /// Channels of the hidden layer of a feed-forward network.
    pub n_inner: usize,
    /// Whether the feed-forward network has a gate, as in SwiGLU.
    pub gated: bool,
    pub vocab_size: usize,
}

impl Sizes {
    /// The sizes of a model with GPT-2's architecture.
    #[must_use]
    pub const fn gpt2(n_layer: usize, n_embd: usize, vocab_size: usize) -> Self {
        let n_inner = 4 * n_embd;
        Self { n_layer, n_embd, queries: n_embd, keys: n_embd, n_inner, gated: false, vocab_size }
    }

    /// Floating-point operations of a training step over `tokens` tokens, in sequences of `time`.
    #[must_use]
    pub fn train_flops(&self, tokens: usize, time: usize) -> f64 {
        tokens as f64
            * (6.0 * (self.block_weights() + self.head_weights()) + 3.0 * self.attention_flops(time as f64))
    }

    /// Floating-point operations of a Muon step on the matrices of the blocks, as `kernels` implements it. A nearly
    /// square matrix takes three iterations of three products. A longer one takes two products with the matrix and nine
    /// products of Gram matrices.
    #[must_use]
    pub fn muon_flops(&self) -> f64 {
        let matrix = |[a, b]: [usize; 2]| {
            let (short, long) = (a.min(b) as f64, a.max(b) as f64);
            let (full, gram) = (2.0 * short * short * long, 2.0 * short.powi(3));
            if 2.0 * long < 3.0 * short { 3.0 * (2.0 * full + gram) } else { 2.0 * full + 9.0 * gram }
        };
        self.n_layer as f64
            * self.matrices().into_iter().map(|(n, shape)| n as f64 * matrix(shape)).sum::<f64>()
    }

    /// Floating-point operations of prefill: a prompt of `tokens` tokens, and the logits of the next one.
    #[must_use]
    pub fn prefill_flops(&self, tokens: usize) -> f64 {
        let tokens = tokens as f64;
        tokens * (2.0 * self.block_weights() + self.attention_flops(tokens)) + 2.0 * self.head_weights()
    }

    /// Floating-point operations of decoding one token after `n_cached` others.
    #[must_use]
    pub fn decode_flops(&self, n_cached: f64) -> f64 {
        2.0 * (self.block_weights() + self.head_weights()) + self.attention_flops(n_cached)
    }

    /// Bytes read to decode one token: each weight of the matrix products once, as f32.
    #[must_use]
    pub fn weight_bytes(&self) -> f64 {
        WEIGHT_BYTES * (self.block_weights() + self.head_weights())
    }

    fn block_weights(&self) -> f64 {
        let weights = self.matrices().into_iter().map(|(n, [d_in, d_out])| (n * d_in * d_out) as f64);
        self.n_layer as f64 * weights.sum::<f64>()
    }

    /// The matrices of a block: how many there are of each shape.
    fn matrices(&self) -> [(usize, [usize; 2]); 4] {
        let Self { n_embd, queries, keys, n_inner, gated, .. } = *self;
        [
            (2, [n_embd, queries]), // The query projection and the output projection.
            (2, [n_embd, keys]),
            (1 + usize::from(gated), [n_embd, n_inner]),
            (1, [n_inner, n_embd]),
        ]
    }

    fn head_weights(&self) -> f64 {
        (self.vocab_size * self.n_embd) as f64
    }

    /// Forward operations of one token that attends to `time` tokens: its scores and the weighted sum of values.
    fn attention_flops(&self, time: f64) -> f64 {
        4.0 * self.n_layer as f64 * time * self.queries as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPT2: Sizes = Sizes::gpt2(12, 768, 50_257);

    #[test]
    fn weight_bytes_of_gpt2_are_its_matrices() {
        // 124.4M parameters, less 1024 · 768 for positions and some 121 thousand for norms and biases.
        assert_eq!(GPT2.weight_bytes(), 4.0 * 123_532_032.0);
    }

    #[test]
    fn train_flops_count_weights_and_attention() {
        let sizes = Sizes::gpt2(6, 384, 65);
        let tokens = 8.0 * 256.0;
        let weights = 12.0 * 6.0 * 384.0 * 384.0 + 65.0 * 384.0;
        let attention = 12.0 * 6.0 * 256.0 * 384.0;
        assert_eq!(sizes.train_flops(8 * 256, 256), tokens * (6.0 * weights + attention));
    }

    #[test]
    fn muon_flops_count_its_products() {
        let one = Sizes::gpt2(1, 1, 1);
        // Queries, keys, values and their output projection: 9 products each. Two longer matrices: 8 + 9 each.
        assert_eq!(one.muon_flops(), 2.0 * (4.0 * 9.0 + 2.0 * 17.0));
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
    fn prefill_computes_the_head_once() {
        let head = 2.0 * GPT2.head_weights();
        let forward = 512.0 * (2.0 * 84_934_656.0 + 4.0 * 12.0 * 512.0 * 768.0);
        assert_eq!(GPT2.prefill_flops(512), forward + head);
    }

    #[test]
    fn decoding_attends_to_the_cached_tokens() {
        let alone = GPT2.decode_flops(0.0);
        assert_eq!(alone, 2.0 * 123_532_032.0);
        assert_eq!(GPT2.decode_flops(10.0) - alone, 4.0 * 12.0 * 10.0 * 768.0);
    }
}
