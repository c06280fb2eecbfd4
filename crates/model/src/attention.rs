//! Causal multi-head self-attention.

use burn::prelude::*;
use kernels::{Attention, Precision, QkNorm, Rope, Segment, Slot};

use crate::{GptConfig, init::Init, linear::Linear, norm::Norm, settings::Settings};

/// Lets every position read from itself and from the positions before it.
///
/// See section 3.2 of [Attention Is All You Need](https://arxiv.org/abs/1706.03762).
#[derive(Module, Debug)]
pub(crate) struct CausalSelfAttention {
    /// C → (H + 2 KV) · D: the queries, keys and values of all heads, side by side.
    qkv: Linear,
    /// Of each head, before they meet.
    query_norm: Option<Norm>,
    key_norm: Option<Norm>,
    /// H · D → C: mixes the heads back into the residual stream.
    project: Linear,
    n_head: usize,
    n_kv_head: usize,
    #[module(skip)]
    rope: Option<Rope>,
}

/// A step, as one layer sees it. Its rows are one batch, `[1, N, C]`.
pub(crate) struct LayerStep<'a, 's> {
    pub(crate) segments: &'a [Segment],
    /// One for each segment.
    pub(crate) slots: &'a mut [&'s mut Slot],
    pub(crate) layer: usize,
}

impl CausalSelfAttention {
    /// `rope` is that of the model, where its positions are rotary.
    pub(crate) fn new(config: &GptConfig, rope: Option<Rope>, init: &mut Init<'_>) -> Self {
        let widths = config.qkv_widths();
        let head_norm = |init: &Init<'_>| config.attention.qk_norm.then(|| init.head_norm());
        Self {
            qkv: init.qkv(config.n_embd, widths.iter().sum()),
            query_norm: head_norm(init),
            key_norm: head_norm(init),
            project: init.residual_linear(widths[0], config.n_embd),
            n_head: config.attention.n_head,
            n_kv_head: config.n_kv_head(),
            rope,
        }
    }

    /// That of queries, keys and values, and the projection.
    pub(crate) fn linear_layers(&mut self) -> [&mut Linear; 2] {
        [&mut self.qkv, &mut self.project]
    }

    /// In a step, the rows of `x` follow what the slots of their segments hold, and are added to it.
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
        step: Option<LayerStep<'_, '_>>,
        Settings { dropout, precision }: Settings,
    ) -> Tensor<3> {
        let qkv = self.qkv.forward(x, precision); // [B, T, (H + 2 KV) · D]
        let heads = self.heads(precision);
        let mixed = match step {
            Some(LayerStep { segments, slots, layer }) => {
                kernels::ragged_attention(qkv, &heads, segments, slots, layer)
            }
            None => kernels::causal_attention(qkv, &heads, dropout),
        }; // [B, T, H · D]
        self.project.forward_onto(mixed, dropout, residual, precision)
    }

    fn heads(&self, precision: Precision) -> Attention {
        let qk_norm = self.query_norm.as_ref().zip(self.key_norm.as_ref()).map(|(query, key)| QkNorm {
            query_gain: query.gamma.val(),
            key_gain: key.gamma.val(),
            epsilon: query.epsilon(),
        });
        let (n_head, n_kv_head) = (self.n_head, self.n_kv_head);
        Attention { n_head, n_kv_head, qk_norm, rope: self.rope.clone(), precision }
    }
}
