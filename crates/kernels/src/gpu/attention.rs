//! Causal attention without all scores at a time.
//!
//! After [Rabe and Staats, 2021](https://arxiv.org/abs/2112.05682), by chunks of queries, which see the keys before them
//! whole. The backward pass makes a chunk's scores again: section 3.1 of
//! [FlashAttention](https://arxiv.org/abs/2205.14135), equations in its appendix B.2.

use std::ops::Range;

use burn::backend::{
    Backend, TensorMetadata,
    tensor::{BoolTensor, FloatTensor},
};

use super::primitive::{add_to_first, chunks, factor, narrow, narrow_int, product, reshaped};
use crate::{Precision, cpu::dropout::Mask, dropout};

/// What attention takes.
#[derive(Debug, Clone)]
pub(super) struct Inputs<B: Backend> {
    /// `[B, H, T, D]`
    pub(super) queries: FloatTensor<B>,
    /// `[B, KV, T, D]`
    pub(super) keys: FloatTensor<B>,
    /// As `keys`.
    pub(super) values: FloatTensor<B>,
    /// `[T, T]`: true where the second position comes after the first.
    pub(super) future: BoolTensor<B>,
    /// Of the weights, `[B, H, T, T]`.
    pub(super) mask: Option<Mask>,
}

/// The output, `[B, H, T, D]`, and the logarithms of the sums that softmax divides by, `[B, H, T, 1]`.
pub(super) fn forward<B: Backend>(
    inputs: Inputs<B>,
    n_rows: usize,
    precision: Precision,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let heads = Heads::<B>::new(inputs, precision);
    let (mut outs, mut sums) = (Vec::new(), Vec::new());
    for rows in chunks(heads.time, n_rows) {
        let scores = heads.scores(&rows);
        let largest = B::float_max_dim(scores.clone(), 3);
        let weights = B::float_exp(B::float_sub(scores, largest.clone()));
        let sum = B::float_sum_dim(weights.clone(), 3);
        let weights = heads.grouped(factor::<B>(heads.dropped(weights, &rows), precision));
        let mixed = product::<B>(weights, heads.seen(&heads.values, &rows));
        outs.push(B::float_div(heads.by_head(mixed), sum.clone()));
        sums.push(B::float_add(largest, B::float_log(sum)));
    }
    (B::float_cat(outs, 2), B::float_cat(sums, 2))
}

/// The gradients of queries, keys and values, from the output, the logarithms of sums, and the output's gradient.
pub(super) fn backward<B: Backend>(
    inputs: Inputs<B>,
    [out, sums, d_out]: [FloatTensor<B>; 3],
    n_rows: usize,
    precision: Precision,
) -> [FloatTensor<B>; 3] {
    let heads = Heads::<B>::new(inputs, precision);
    // The sum over keys of a weight times its gradient, [B, H, T, 1].
    let shared = B::float_sum_dim(B::float_mul(d_out.clone(), out), 3);
    let d_out = factor::<B>(d_out, precision);
    let mut d_queries = Vec::new();
    let mut d_others: Option<[FloatTensor<B>; 2]> = None;
    // The last chunk sees all keys, and the ones before it the first of them.
    for rows in chunks(heads.time, n_rows).rev() {
        let here = |x: &FloatTensor<B>| narrow::<B>(x.clone(), 2, rows.clone());
        let (keys, values) = (heads.seen(&heads.keys, &rows), heads.seen(&heads.values, &rows));
        let weights = B::float_exp(B::float_sub(heads.scores(&rows), here(&sums)));
        let d_mixed = heads.grouped(here(&d_out));
        let d_weights = heads.by_head(product::<B>(d_mixed.clone(), B::float_transpose(values)));
        let d_weights = heads.dropped(d_weights, &rows);
        let d_scores = B::float_mul(weights.clone(), B::float_sub(d_weights, here(&shared)));
        let [weights, d_scores] =
            [heads.dropped(weights, &rows), d_scores].map(|x| heads.grouped(factor::<B>(x, precision)));
        let d_query = heads.by_head(product::<B>(d_scores.clone(), keys));
        d_queries.push(B::float_mul_scalar(d_query, heads.scale.into()));
        let d_keys = product::<B>(B::float_transpose(d_scores), heads.grouped(here(&heads.queries)));
        let d_values = product::<B>(B::float_transpose(weights), d_mixed);
        d_others = Some(match d_others {
            None => [d_keys, d_values],
            Some([keys, values]) => {
                [add_to_first::<B>(keys, 2, d_keys), add_to_first::<B>(values, 2, d_values)]
            }
        });
    }
    d_queries.reverse();
    let [d_keys, d_values] = d_others.expect("there is a position");
    [B::float_cat(d_queries, 2), d_keys, d_values]
}

/// Queries, scaled, keys and values as factors.
struct Heads<B: Backend> {
    queries: FloatTensor<B>,
    keys: FloatTensor<B>,
    values: FloatTensor<B>,
    /// As [`Inputs::future`].
    future: BoolTensor<B>,
    mask: Option<Mask>,
    batch: usize,
    n_head: usize,
    n_kv_head: usize,
    time: usize,
    scale: f64,
}

impl<B: Backend> Heads<B> {
    fn new(Inputs { queries, keys, values, future, mask }: Inputs<B>, precision: Precision) -> Self {
        let [batch, n_head, time, head_dim] = queries.shape().dims();
        let n_kv_head = keys.shape()[1];
        let scale = 1.0 / (head_dim as f64).sqrt();
        let queries = B::float_mul_scalar(queries, scale.into());
        let [queries, keys, values] = [queries, keys, values].map(|x| factor::<B>(x, precision));
        Self { queries, keys, values, future, mask, batch, n_head, n_kv_head, time, scale }
    }

    /// Of keys or values those that the last of `rows` sees.
    fn seen(&self, x: &FloatTensor<B>, rows: &Range<usize>) -> FloatTensor<B> {
        narrow::<B>(x.clone(), 2, 0..rows.end)
    }

    /// `[B, H, R, N]` to `[B, KV, H/KV · R, N]`: the queries that a head of keys serves, one head of them after the other.
    fn grouped(&self, x: FloatTensor<B>) -> FloatTensor<B> {
        let [_, _, n_rows, width] = x.shape().dims();
        reshaped::<B, 4>(x, [self.batch, self.n_kv_head, self.n_head / self.n_kv_head * n_rows, width])
    }

    /// The inverse of [`Heads::grouped`].
    fn by_head(&self, x: FloatTensor<B>) -> FloatTensor<B> {
        let [_, _, n_rows, width] = x.shape().dims();
        reshaped::<B, 4>(x, [self.batch, self.n_head, n_rows * self.n_kv_head / self.n_head, width])
    }

    /// The scores of the queries `rows` and what the last of them sees, `[B, H, R, rows.end]`, the future -∞.
    fn scores(&self, rows: &Range<usize>) -> FloatTensor<B> {
        let queries = self.grouped(narrow::<B>(self.queries.clone(), 2, rows.clone()));
        let keys = B::float_transpose(self.seen(&self.keys, rows));
        let scores = self.by_head(product::<B>(queries, keys));
        let future = B::bool_slice(self.future.clone(), &[rows.clone().into(), (..rows.end).into()]);
        let future = B::bool_expand(future, scores.shape());
        B::float_mask_fill(scores, future, f32::NEG_INFINITY.into())
    }

    /// What is left of the weights of the queries `rows`, or of their gradients.
    fn dropped(&self, weights: FloatTensor<B>, rows: &Range<usize>) -> FloatTensor<B> {
        let Some(mask) = self.mask else { return weights };
        let n_heads = self.batch * self.n_head;
        let numbers = dropout::numbers::<B>(n_heads * self.time, &weights.device());
        let numbers = B::int_reshape(numbers, [n_heads, self.time].into());
        let numbers = narrow_int::<B>(numbers, 1, rows.clone());
        let numbers = B::int_reshape(numbers, [n_heads * rows.len()].into());
        let factors = dropout::factors::<B>(mask, numbers, rows.end);
        B::float_mul(weights.clone(), B::float_reshape(factors, weights.shape()))
    }
}
