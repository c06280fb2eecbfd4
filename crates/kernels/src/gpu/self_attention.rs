//! Self-attention of concatenated queries, keys and values, with QK norm and RoPE.

use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};
use cpu::{Documents, NormKind, Precision, dropout::Mask};

use super::{
    attention::{self, Heads},
    kernels::GpuKernels,
    primitive::reshaped,
};

/// Sizes and options of [`super::GpuOps::self_attention`].
#[derive(Debug, Clone)]
pub(crate) struct SelfAttention {
    pub(crate) n_head: usize,
    pub(crate) n_kv_head: usize,
    /// Of QK norm.
    pub(crate) epsilon: f32,
    pub(crate) documents: Option<Documents>,
    /// Dropout of the attention weights.
    pub(crate) mask: Option<Mask>,
    /// Queries per chunk.
    pub(crate) n_rows: usize,
    pub(crate) precision: Precision,
}

/// The tensors of [`super::GpuOps::self_attention`].
#[derive(Debug, Clone)]
pub(super) struct Inputs<B: Backend> {
    /// `[B, T, (H + 2 KV) · D]`
    pub(super) qkv: FloatTensor<B>,
    /// The gains of QK norm, `[D]`, or empty without it.
    pub(super) gains: [FloatTensor<B>; 2],
    /// The cosines and sines of RoPE, `[positions, D/2]`, or empty without it.
    pub(super) factors: [FloatTensor<B>; 2],
}

/// The values that the backward pass needs.
#[derive(Debug, Clone)]
pub(super) struct Attended<B: Backend> {
    heads: Heads<B>,
    /// The channels and the gains, with QK norm.
    normed: Option<(FloatTensor<B>, [FloatTensor<B>; 2])>,
    /// Of RoPE.
    factors: Option<[FloatTensor<B>; 2]>,
    options: SelfAttention,
}

/// The gradients of the channels and of the gains.
pub(super) type Gradients<B> = (FloatTensor<B>, [Option<FloatTensor<B>>; 2]);

impl SelfAttention {
    /// The query heads and the key heads: the first, and their number.
    fn ranges(&self) -> [(usize, usize); 2] {
        [(0, self.n_head), (self.n_head, self.n_kv_head)]
    }
}

impl<B: GpuKernels> Inputs<B> {
    /// The heads, and the output `[B, T, H · D]`.
    pub(super) fn attend(self, options: SelfAttention) -> (Attended<B>, FloatTensor<B>) {
        let Self { qkv, gains, factors } = self;
        let SelfAttention { n_head, n_kv_head, epsilon, n_rows, precision, mask, .. } = options;
        let head_dim = qkv.shape()[2] / (n_head + 2 * n_kv_head);
        let gains = (gains[0].shape()[0] > 0).then_some(gains);
        let factors = (factors[0].shape()[0] > 0).then_some(factors);
        let is_plain = gains.is_none() && factors.is_none();
        let part =
            |(first, n): (usize, usize), precision| B::to_heads(qkv.clone(), first, n, head_dim, precision);
        let prepared = |idx: usize, range| {
            let mut x = part(range, if is_plain { precision } else { Precision::F32 });
            if let Some(gains) = &gains {
                let shape = x.shape();
                let rows = reshaped::<B, 2>(x, [shape.num_elements() / head_dim, head_dim]);
                let rows = B::norm_rows(rows, gains[idx].clone(), NormKind::Rms, epsilon);
                x = B::float_reshape(rows, shape);
            }
            if let Some([cosines, sines]) = factors.clone() {
                x = B::rotate(x, cosines, sines, false, precision);
            }
            x
        };
        let [query_range, key_range] = options.ranges();
        let (queries, keys) = (prepared(0, query_range), prepared(1, key_range));
        let values = part((n_head + n_kv_head, n_kv_head), precision);
        let documents = options.documents.as_ref();
        let heads = Heads::new([queries, keys, values], documents, mask, n_rows, precision);
        let out = heads.merged(attention::forward(&heads));
        (Attended { heads, normed: gains.map(|gains| (qkv, gains)), factors, options }, out)
    }
}

impl<B: GpuKernels> Attended<B> {
    /// The gradients, given that of the output.
    pub(super) fn gradients(self, d_out: FloatTensor<B>) -> Gradients<B> {
        let Self { heads, normed, factors, options } = self;
        let d_out = heads.unmerged(d_out);
        let [d_queries, d_keys, d_values] = attention::backward(&heads, d_out);
        let mut d_gains = [None, None];
        let mut d_heads = [d_queries, d_keys];
        for (idx, (first, n)) in options.ranges().into_iter().enumerate() {
            let mut d = d_heads[idx].clone();
            let shape = d.shape();
            if let Some([cosines, sines]) = factors.clone() {
                d = B::rotate(d, cosines, sines, true, Precision::F32);
            }
            if let Some((qkv, gains)) = &normed {
                let head_dim = shape[3];
                let x = B::to_heads(qkv.clone(), first, n, head_dim, Precision::F32);
                let n_rows = shape.num_elements() / head_dim;
                let [x, d_y] = [x, d].map(|x| reshaped::<B, 2>(x, [n_rows, head_dim]));
                let gain = gains[idx].clone();
                let (d_x, d_gain) = B::norm_gradients(x, gain, d_y, NormKind::Rms, options.epsilon);
                d = B::float_reshape(d_x, shape);
                d_gains[idx] = Some(d_gain);
            }
            d_heads[idx] = d;
        }
        let [d_queries, d_keys] = d_heads;
        (B::join_heads(d_queries, d_keys, d_values), d_gains)
    }
}
