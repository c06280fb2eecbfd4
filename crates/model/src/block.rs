//! A residual block.

use burn::{nn::LayerNorm, prelude::*};
use kernels::KeyValueCache;

use crate::{GptConfig, attention::CausalSelfAttention, feed_forward::FeedForward, init::Init};

/// Attention, then feed-forward, each normalised before and added to the residual stream after.
#[derive(Module, Debug)]
pub(crate) struct Block {
    attention_norm: LayerNorm,
    attention: CausalSelfAttention,
    feed_forward_norm: LayerNorm,
    feed_forward: FeedForward,
}

impl Block {
    pub(crate) fn new(config: &GptConfig, init: &mut Init<'_>) -> Self {
        Self {
            attention_norm: init.norm(),
            attention: CausalSelfAttention::new(config, init),
            feed_forward_norm: init.norm(),
            feed_forward: FeedForward::new(config, init),
        }
    }

    pub(crate) fn set_dropout(&mut self, probability: f64) {
        self.attention.dropout = probability;
        self.feed_forward.dropout = probability;
    }

    /// # Shapes
    ///
    /// - `x`: `[B, T, C]`
    /// - output: `[B, T, C]`
    pub(crate) fn forward(&self, x: Tensor<3>, cache: Option<&mut KeyValueCache>) -> Tensor<3> {
        let x = x.clone() + self.attention.forward(self.attention_norm.forward(x), cache);
        x.clone() + self.feed_forward.forward(self.feed_forward_norm.forward(x))
    }
}
