//! From channels to heads and back, in tensor operations: the reference implementation of one kernel each.

use burn::{
    backend::{Backend, TensorMetadata, tensor::FloatTensor},
    prelude::Shape,
};
use cpu::{NormKind, Precision};

use super::{
    norm,
    primitive::{as_f32, narrow, operand, reshaped},
};

/// How channels, `[B, T, (H + 2 KV) · D]`, become heads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadSplit {
    /// H
    pub(crate) n_head: usize,
    /// KV
    pub(crate) n_kv_head: usize,
    /// Of QK norm; `None` without it.
    pub(crate) epsilon: Option<f32>,
    /// The rows of RoPE's angles before they repeat: T, or B · T if sequences have their own. `None` without RoPE.
    pub(crate) n_angles: Option<usize>,
    /// The precision of the channels and of their gradient.
    pub(crate) channels: Precision,
    /// The precision of the heads.
    pub(crate) precision: Precision,
}

impl HeadSplit {
    /// The head dimension of channels.
    pub(crate) fn head_dim(&self, width: usize) -> usize {
        width / (self.n_head + 2 * self.n_kv_head)
    }
}

/// The body of [`GpuKernels::split_heads`](super::GpuKernels::split_heads).
pub(super) fn split<B: Backend>(
    qkv: FloatTensor<B>,
    gains: FloatTensor<B>,
    angles: FloatTensor<B>,
    split: HeadSplit,
) -> [FloatTensor<B>; 3] {
    let HeadSplit { n_head, n_kv_head, epsilon, n_angles, precision, .. } = split;
    let qkv = as_f32::<B>(qkv);
    let prepared = |first, n, idx: usize| {
        let mut x = part::<B>(qkv.clone(), first, n, &split);
        if let Some(epsilon) = epsilon {
            let (shape, head_dim) = (x.shape(), x.shape()[3]);
            let rows = reshaped::<B, 2>(x, [shape.num_elements() / head_dim, head_dim]);
            let rows = norm::forward::<B>(rows, gain::<B>(&gains, idx), NormKind::Rms, epsilon);
            x = B::float_reshape(rows, shape);
        }
        if let Some(n_angles) = n_angles {
            x = rotated::<B>(x, narrow::<B>(angles.clone(), 0, 0..n_angles), false);
        }
        operand::<B>(x, precision)
    };
    let (queries, keys) = (prepared(0, n_head, 0), prepared(n_head, n_kv_head, 1));
    [queries, keys, operand::<B>(part::<B>(qkv.clone(), n_head + n_kv_head, n_kv_head, &split), precision)]
}

/// The body of [`GpuKernels::channel_gradients`](super::GpuKernels::channel_gradients).
pub(super) fn gradients<B: Backend>(
    d_heads: [FloatTensor<B>; 3],
    qkv: FloatTensor<B>,
    gains: FloatTensor<B>,
    angles: FloatTensor<B>,
    split: HeadSplit,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let HeadSplit { n_head, n_kv_head, epsilon, n_angles, .. } = split;
    let [d_queries, d_keys, d_values] = d_heads.map(as_f32::<B>);
    let (head_dim, qkv) = (d_queries.shape()[3], as_f32::<B>(qkv));
    let undone = |d: FloatTensor<B>, first, n, idx: usize| {
        let d = match n_angles {
            Some(n_angles) => rotated::<B>(d, narrow::<B>(angles.clone(), 0, 0..n_angles), true),
            None => d,
        };
        let Some(epsilon) = epsilon else { return (d, None) };
        let shape = d.shape();
        let x = part::<B>(qkv.clone(), first, n, &split);
        let [x, d] = [x, d].map(|x| reshaped::<B, 2>(x, [shape.num_elements() / head_dim, head_dim]));
        let (d_x, d_gain) = norm::backward::<B>(x, gain::<B>(&gains, idx), d, NormKind::Rms, epsilon);
        (B::float_reshape(d_x, shape), Some(reshaped::<B, 2>(d_gain, [1, head_dim])))
    };
    let (d_queries, d_query_gain) = undone(d_queries, 0, n_head, 0);
    let (d_keys, d_key_gain) = undone(d_keys, n_head, n_kv_head, 1);
    let parts = [d_queries, d_keys, d_values].map(|part| {
        let [batch, n, time, head_dim] = part.shape().dims();
        reshaped::<B, 3>(B::float_swap_dims(part, 1, 2), [batch, time, n * head_dim])
    });
    let d_gains = match d_query_gain.zip(d_key_gain) {
        Some((query, key)) => B::float_cat(vec![query, key], 0),
        None => B::float_zeros(Shape::new([2, head_dim]), &parts[0].device(), parts[0].dtype().into()),
    };
    (operand::<B>(B::float_cat(parts.into(), 2), split.channels), d_gains)
}

/// A row of the gains, `[D]`.
fn gain<B: Backend>(gains: &FloatTensor<B>, row: usize) -> FloatTensor<B> {
    let width = gains.shape()[1];
    reshaped::<B, 1>(narrow::<B>(gains.clone(), 0, row..row + 1), [width])
}

/// The heads `first..first + n`, `[B, n, T, D]`.
fn part<B: Backend>(qkv: FloatTensor<B>, first: usize, n: usize, split: &HeadSplit) -> FloatTensor<B> {
    let [batch, time, width] = qkv.shape().dims();
    let head_dim = split.head_dim(width);
    let part = narrow::<B>(qkv, 2, first * head_dim..(first + n) * head_dim);
    B::float_swap_dims(reshaped::<B, 4>(part, [batch, time, n, head_dim]), 1, 2)
}

/// Rotates the halves of each head, `[B, n, T, D]`, or back, by angles `[T, D]` or `[B · T, D]`.
fn rotated<B: Backend>(x: FloatTensor<B>, angles: FloatTensor<B>, is_inverse: bool) -> FloatTensor<B> {
    let [_, _, time, head_dim] = x.shape().dims();
    let (half, n_angles) = (head_dim / 2, angles.shape()[0]);
    let [cos, sin] = [0, half].map(|start| {
        let factors = narrow::<B>(angles.clone(), 1, start..start + half);
        reshaped::<B, 4>(factors, [n_angles / time, 1, time, half])
    });
    let sin = if is_inverse { B::float_neg(sin) } else { sin };
    let [a, b] = [0, half].map(|start| narrow::<B>(x.clone(), 3, start..start + half));
    let product = |x: &FloatTensor<B>, y: &FloatTensor<B>| B::float_mul(x.clone(), y.clone());
    let first = B::float_sub(product(&a, &cos), product(&b, &sin));
    let second = B::float_add(product(&b, &cos), product(&a, &sin));
    B::float_cat(vec![first, second], 3)
}
