//! Configs of known models, and of models for tests.

use crate::{
    Activation, AttentionConfig, FeedForwardConfig, GptConfig, NormConfig, NormKind, Position,
    PositionConfig,
    config::{DEFAULT_NORM_EPSILON, DEFAULT_ROPE_THETA},
};

impl GptConfig {
    /// GPT-2 small (124M parameters).
    pub fn gpt2() -> Self {
        Self {
            family: None,
            vocab_size: 50_257,
            block_size: 1024,
            n_layer: 12,
            n_embd: 768,
            dropout: 0.1,
            bias: true,
            tie_embeddings: true,
            zero_init: false,
            attention: AttentionConfig {
                n_head: 12,
                n_kv_head: None,
                head_dim: None,
                qkv_bias: false,
                qk_norm: false,
            },
            feed_forward: FeedForwardConfig { n_inner: None, activation: Activation::GeluTanh },
            position: PositionConfig { kind: Position::Learned, rope_theta: DEFAULT_ROPE_THETA },
            norm: NormConfig { kind: NormKind::LayerNorm, epsilon: DEFAULT_NORM_EPSILON },
        }
    }

    /// GPT-2 medium (355M parameters).
    pub fn gpt2_medium() -> Self {
        Self { n_layer: 24, n_embd: 1024, ..Self::gpt2() }.with_heads(16)
    }

    /// GPT-2 large (774M parameters).
    pub fn gpt2_large() -> Self {
        Self { n_layer: 36, n_embd: 1280, ..Self::gpt2() }.with_heads(20)
    }

    /// GPT-2 XL (1558M parameters).
    pub fn gpt2_xl() -> Self {
        Self { n_layer: 48, n_embd: 1600, ..Self::gpt2() }.with_heads(25)
    }

    /// [SmolLM2-135M](https://huggingface.co/HuggingFaceTB/SmolLM2-135M).
    pub fn smollm2_135m() -> Self {
        let gpt2 = Self::gpt2();
        Self {
            vocab_size: 49_152,
            block_size: 8192,
            n_layer: 30,
            n_embd: 576,
            dropout: 0.0,
            bias: false,
            attention: AttentionConfig { n_head: 9, n_kv_head: Some(3), ..gpt2.attention },
            feed_forward: FeedForwardConfig { n_inner: Some(1536), activation: Activation::Swiglu },
            position: PositionConfig { kind: Position::Rope, rope_theta: 100_000.0 },
            norm: NormConfig { kind: NormKind::RmsNorm, epsilon: 1e-5 },
            ..gpt2
        }
    }

    /// nanoGPT's model for Shakespeare on a GPU (10.7M parameters, 65 characters).
    pub fn nanogpt_gpu() -> Self {
        let gpt2 = Self::gpt2();
        Self {
            vocab_size: 65,
            block_size: 256,
            n_layer: 6,
            n_embd: 384,
            dropout: 0.2,
            bias: false,
            feed_forward: FeedForwardConfig { activation: Activation::Gelu, ..gpt2.feed_forward },
            ..gpt2
        }
        .with_heads(6)
    }

    /// nanoGPT's model for Shakespeare on a CPU (0.8M parameters, 65 characters).
    pub fn nanogpt_cpu() -> Self {
        Self { block_size: 64, n_layer: 4, n_embd: 128, dropout: 0.0, ..Self::nanogpt_gpu() }.with_heads(4)
    }

    /// A tiny model for tests, whose sizes all differ.
    pub fn debug() -> Self {
        Self { vocab_size: 13, block_size: 8, n_layer: 2, n_embd: 12, ..Self::nanogpt_cpu() }.with_heads(3)
    }

    /// A tiny model for tests with RoPE, RMSNorm, SwiGLU, QK norm and GQA, whose sizes all differ.
    pub fn debug_modern() -> Self {
        let debug = Self::debug();
        Self {
            tie_embeddings: false,
            attention: AttentionConfig {
                n_head: 4,
                n_kv_head: Some(2),
                head_dim: Some(6),
                qk_norm: true,
                ..debug.attention
            },
            feed_forward: FeedForwardConfig { n_inner: Some(20), activation: Activation::Swiglu },
            position: PositionConfig { kind: Position::Rope, ..debug.position },
            norm: NormConfig { kind: NormKind::RmsNorm, epsilon: 1e-6 },
            ..debug
        }
    }

    fn with_heads(mut self, n_head: usize) -> Self {
        self.attention.n_head = n_head;
        self
    }
}
