//! The position-wise feed-forward network.

use burn::prelude::*;

use crate::{Activation, GptConfig, init::Init, linear::Linear, settings::Settings};

/// Two linear layers with an activation between them, section 3.3 of
/// [Attention Is All You Need](https://arxiv.org/abs/1706.03762).
#[derive(Module, Debug)]
pub(crate) struct FeedForward {
    /// C → I, or C → 2I with SwiGLU: the gates, then the gated values.
    expand: Linear,
    /// I → C
    project: Linear,
    #[module(skip)]
    activation: Activation,
}

impl FeedForward {
    pub(crate) fn new(config: &GptConfig, init: &mut Init<'_>) -> Self {
        Self {
            expand: init.linear(config.n_embd, config.expanded_width()),
            project: init.residual_linear(config.n_inner(), config.n_embd),
            activation: config.feed_forward.activation,
        }
    }

    pub(crate) fn linear_layers(&mut self) -> [&mut Linear; 2] {
        [&mut self.expand, &mut self.project]
    }

    /// # Shapes
    ///
    /// - `x`: `[B, T, C]`
    /// - `residual`: `[B, T, C]`, to which the result is added
    /// - output: `[B, T, C]`
    pub(crate) fn forward(
        &self,
        x: Tensor<3>,
        residual: Tensor<3>,
        Settings { dropout, precision, .. }: Settings<'_>,
    ) -> Tensor<3> {
        let hidden = self.expand.forward_activated(x, self.activation.into(), precision); // [B, T, I]
        self.project.forward_residual(hidden, dropout, residual, precision)
    }
}
