//! A residual block.

use burn::prelude::*;
use kernels::Rope;

use crate::{
    GptConfig,
    attention::{CausalSelfAttention, LayerStep},
    feed_forward::FeedForward,
    init::Init,
    linear::Linear,
    norm::Norm,
    settings::Settings,
};

/// A pre-norm residual block: attention, then the feed-forward network.
#[derive(Module, Debug)]
pub(crate) struct Block {
    attention_norm: Norm,
    attention: CausalSelfAttention,
    feed_forward_norm: Norm,
    feed_forward: FeedForward,
}

impl Block {
    pub(crate) fn new(config: &GptConfig, rope: Option<Rope>, init: &mut Init<'_>) -> Self {
        Self {
            attention_norm: init.norm(),
            attention: CausalSelfAttention::new(config, rope, init),
            feed_forward_norm: init.norm(),
            feed_forward: FeedForward::new(config, init),
        }
    }

    /// The linear layers with their paths.
    pub(crate) fn linear_layers(&mut self) -> [(&'static str, &mut Linear); 4] {
        let [qkv, mix] = self.attention.linear_layers();
        let [expand, contract] = self.feed_forward.linear_layers();
        [
            ("attention.qkv", qkv),
            ("attention.project", mix),
            ("feed_forward.expand", expand),
            ("feed_forward.project", contract),
        ]
    }

    /// # Shapes
    ///
    /// - `x`: `[B, T, C]`
    /// - output: `[B, T, C]`
    pub(crate) fn forward(
        &self,
        x: Tensor<3>,
        step: Option<LayerStep<'_, '_>>,
        settings: Settings<'_>,
    ) -> Tensor<3> {
        let normed = self.attention_norm.forward(x.clone(), settings.precision);
        let x = self.attention.forward(normed, x, step, settings);
        let normed = self.feed_forward_norm.forward(x.clone(), settings.precision);
        self.feed_forward.forward(normed, x, settings)
    }
}
