//! Self-attention of concatenated queries, keys and values, with QK norm and RoPE.

use burn::backend::{Backend, tensor::FloatTensor};
use cpu::dropout::Mask;

use super::{
    attention::{self, Heads},
    heads::HeadSplit,
    kernels::GpuKernels,
};

/// Sizes and options of [`super::GpuOps::self_attention`].
#[derive(Debug, Clone)]
pub(crate) struct SelfAttention {
    /// Queries and keys are normed if it has an ε, and rotated if it has angles.
    pub(crate) split: HeadSplit,
    pub(crate) has_documents: bool,
    /// Dropout of the attention weights.
    pub(crate) mask: Option<Mask>,
    /// Queries per chunk.
    pub(crate) n_rows: usize,
}

/// The tensors of [`super::GpuOps::self_attention`].
#[derive(Debug, Clone)]
pub(super) struct Inputs<B: Backend> {
    /// `[B, T, (H + 2 KV) · D]`
    pub(super) qkv: FloatTensor<B>,
    /// Of QK norm.
    pub(super) gains: FloatTensor<B>,
    /// Of RoPE.
    pub(super) angles: FloatTensor<B>,
    /// Of documents.
    pub(super) starts: FloatTensor<B>,
}

/// The values that the backward pass needs.
#[derive(Debug, Clone)]
pub(super) struct Attended<B: Backend> {
    heads: Heads<B>,
    /// The channels and the gains, with QK norm.
    normed: Option<[FloatTensor<B>; 2]>,
    /// With RoPE.
    angles: Option<FloatTensor<B>>,
    split: HeadSplit,
}

/// The gradients of the channels and of the gains.
pub(super) type Gradients<B> = (FloatTensor<B>, Option<FloatTensor<B>>);

impl<B: GpuKernels> Inputs<B> {
    /// The values that the backward pass needs, and the output, `[B, T, H · D]`, in the precision of products.
    pub(super) fn attend(self, options: SelfAttention) -> (Attended<B>, FloatTensor<B>) {
        let Self { qkv, gains, angles, starts } = self;
        let SelfAttention { split, has_documents, mask, n_rows } = options;
        let (queries, keys, values) = B::split_heads(qkv.clone(), gains.clone(), angles.clone(), split);
        let starts = has_documents.then_some(starts);
        let heads = Heads::new([queries, keys, values], starts, mask, n_rows, split.precision);
        let out = attention::forward(&heads);
        let normed = split.epsilon.map(|_| [qkv, gains]);
        (Attended { heads, normed, angles: split.n_angles.map(|_| angles), split }, out)
    }
}

impl<B: GpuKernels> Attended<B> {
    /// The gradients, given that of the output.
    pub(super) fn gradients(self, d_out: FloatTensor<B>) -> Gradients<B> {
        let Self { heads, normed, angles, split } = self;
        let [d_queries, d_keys, d_values] = attention::backward(&heads, d_out);
        let any = || d_keys.clone();
        let [qkv, gains] = normed.unwrap_or_else(|| [any(), any()]);
        let angles = angles.unwrap_or_else(any);
        let (d_qkv, d_gains) = B::channel_gradients(d_queries, d_keys, d_values, qkv, gains, angles, split);
        (d_qkv, split.epsilon.map(|_| d_gains))
    }
}
