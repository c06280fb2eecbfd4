//! Causal multi-head self-attention.

use burn::{module::Param, nn::Linear, prelude::*};
use kernels::{KeyValueCache, Precision};

use crate::{GptConfig, init::Init};

/// Lets every position read from itself and from the positions before it.
///
/// See section 3.2 of [Attention Is All You Need](https://arxiv.org/abs/1706.03762).
#[derive(Module, Debug)]
pub(crate) struct CausalSelfAttention {
    /// C → 3C: the queries, keys and values of all heads, side by side.
    qkv: Linear,
    /// C → C: mixes the heads back into the residual stream.
    project: Linear,
    n_head: usize,
    /// Probability of dropping an activation while training.
    pub(crate) dropout: f64,
    #[module(skip)]
    pub(crate) precision: Precision,
}

impl CausalSelfAttention {
    pub(crate) fn new(config: &GptConfig, init: &mut Init<'_>) -> Self {
        Self {
            qkv: init.linear(config.n_embd, 3 * config.n_embd),
            project: init.residual_linear(config.n_embd, config.n_embd),
            n_head: config.n_head,
            dropout: config.dropout,
            precision: Precision::F32,
        }
    }

    /// With a cache, `x` continues the positions it holds and is added to them.
    ///
    /// # Shapes
    ///
    /// - `x`: `[B, T, C]`
    /// - `residual`: `[B, T, C]`, to which the result is added
    /// - output: `[B, T, C]`
    pub(crate) fn forward(
        &self,
        x: Tensor<3>,
        residual: Tensor<3>,
        cache: Option<&mut KeyValueCache>,
    ) -> Tensor<3> {
        let qkv = linear(&self.qkv, x, self.precision); // [B, T, 3C]
        let mixed = match cache {
            Some(cache) => kernels::cached_causal_attention(qkv, self.n_head, cache),
            None => kernels::causal_attention(qkv, self.n_head, self.dropout),
        }; // [B, T, C]
        linear_residual(&self.project, mixed, self.dropout, residual, self.precision)
    }
}

/// A linear layer by way of the kernels.
///
/// # Shapes
///
/// - `x`: `[B, T, C_in]`
/// - output: `[B, T, C_out]`
pub(crate) fn linear(layer: &Linear, x: Tensor<3>, precision: Precision) -> Tensor<3> {
    kernels::linear(x, layer.weight.val(), layer.bias.as_ref().map(Param::val), precision)
}

/// `residual` plus a linear layer with dropout, by way of the kernels.
///
/// # Shapes
///
/// - `x`: `[B, T, C_in]`
/// - `residual`: `[B, T, C_out]`
/// - output: `[B, T, C_out]`
pub(crate) fn linear_residual(
    layer: &Linear,
    x: Tensor<3>,
    dropout: f64,
    residual: Tensor<3>,
    precision: Precision,
) -> Tensor<3> {
    let bias = layer.bias.as_ref().map(Param::val);
    kernels::linear_residual(x, layer.weight.val(), bias, dropout, residual, precision)
}
