//! A residual block.

use burn::{module::Param, nn::LayerNorm, prelude::*};
use kernels::{KeyValueCache, Precision};

use crate::{
    GptConfig,
    attention::CausalSelfAttention,
    feed_forward::FeedForward,
    init::{Init, NORM_EPSILON},
};

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

    pub(crate) fn set_precision(&mut self, precision: Precision) {
        self.attention.precision = precision;
        self.feed_forward.precision = precision;
    }

    /// # Shapes
    ///
    /// - `x`: `[B, T, C]`
    /// - output: `[B, T, C]`
    pub(crate) fn forward(&self, x: Tensor<3>, cache: Option<&mut KeyValueCache>) -> Tensor<3> {
        let x = self.attention.forward(norm(&self.attention_norm, x.clone()), x, cache);
        self.feed_forward.forward(norm(&self.feed_forward_norm, x.clone()), x)
    }
}

/// A layer norm by way of the kernels.
///
/// # Shapes
///
/// - `x`: `[B, T, C]`
/// - output: `[B, T, C]`
pub(crate) fn norm(layer: &LayerNorm, x: Tensor<3>) -> Tensor<3> {
    kernels::layer_norm(x, layer.gamma.val(), layer.beta.as_ref().map(Param::val), NORM_EPSILON)
}
