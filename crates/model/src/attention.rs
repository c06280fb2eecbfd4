//! Causal multi-head self-attention.

use burn::prelude::*;
use kernels::{Attention, Precision, QkNorm, Rope, Segment, Slot};

use crate::{GptConfig, init::Init, linear::Linear, norm::Norm, settings::Settings};

/// Causal multi-head self-attention, section 3.2 of [Attention Is All You Need](https://arxiv.org/abs/1706.03762).
#[derive(Module, Debug)]
pub(crate) struct CausalSelfAttention {
    /// C → (H + 2 KV) · D: concatenated queries, keys and values of all heads.
    qkv: Linear,
    /// QK norm, applied to each head.
    query_norm: Option<Norm>,
    key_norm: Option<Norm>,
    /// H · D → C: the output projection.
    project: Linear,
    n_head: usize,
    n_kv_head: usize,
    #[module(skip)]
    rope: Option<Rope>,
}

/// A step of inference in one layer. Its input is `[1, N, C]`.
pub(crate) struct LayerStep<'a, 's> {
    pub(crate) segments: &'a [Segment],
    /// One per segment.
    pub(crate) slots: &'a mut [&'s mut Slot],
    pub(crate) layer: usize,
}

impl CausalSelfAttention {
    /// `rope` is `None` if positions are learned.
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

    /// The QKV layer and the output projection.
    pub(crate) fn linear_layers(&mut self) -> [&mut Linear; 2] {
        [&mut self.qkv, &mut self.project]
    }

    /// In a step, the rows of `x` follow the positions in the slots of their segments, and are appended to them.
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
        Settings { dropout, precision, documents }: Settings<'_>,
    ) -> Tensor<3> {
        let heads = self.heads(precision);
        let mixed = match step {
            Some(LayerStep { segments, slots, layer }) => {
                let qkv = self.qkv.forward(x, precision); // [1, N, (H + 2 KV) · D]
                kernels::ragged_attention(qkv, &heads, segments, slots, layer)
            }
            None => {
                let qkv = self.qkv.forward_operand(x, precision); // [B, T, (H + 2 KV) · D]
                kernels::causal_attention(qkv, &heads, documents, dropout)
            }
        }; // [B, T, H · D]
        self.project.forward_residual(mixed, dropout, residual, precision)
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
