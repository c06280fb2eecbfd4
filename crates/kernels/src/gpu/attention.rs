//! Causal attention in chunks of queries, so that only the scores of one chunk exist at a time.
//!
//! After [Rabe and Staats, 2021](https://arxiv.org/abs/2112.05682); a chunk of queries sees all its keys in one
//! product. The backward pass recomputes a chunk's scores, as in section 3.1 of
//! [FlashAttention](https://arxiv.org/abs/2205.14135), with the equations of its appendix B.2.

use std::ops::Range;

use burn::{
    backend::{
        Backend, TensorMetadata, get_device_settings,
        tensor::{FloatTensor, IntTensor},
    },
    prelude::Shape,
};
use cpu::{Documents, Precision, dropout::Mask};

use super::primitive::{add_to_first, chunks, narrow, narrow_int, operand, product, reshaped};
use crate::{
    dropout::{arange, drop_out, is_dropped},
    indices::index_data,
};

/// The output, `[B, H, T, D]`, and the log-sum-exp of the scores, `[B, H, T, 1]`.
pub(super) fn forward<B: Backend>(heads: &Heads<B>) -> [FloatTensor<B>; 2] {
    let (mut outs, mut sums) = (Vec::new(), Vec::new());
    for rows in chunks(heads.time, heads.n_rows) {
        let scores = heads.scores(&rows);
        let largest = B::float_max_dim(scores.clone(), 3);
        let weights = B::float_exp(B::float_sub(scores, largest.clone()));
        let sum = B::float_sum_dim(weights.clone(), 3);
        let weights = heads.grouped(heads.operand(heads.dropped(&rows)(weights)));
        let mixed = product::<B>(weights, heads.seen(&heads.values, &rows));
        outs.push(B::float_div(heads.by_head(mixed), sum.clone()));
        sums.push(B::float_add(largest, B::float_log(sum)));
    }
    [outs, sums].map(|chunks| B::float_cat(chunks, 2))
}

/// The gradients of queries, keys and values, given the results of [`forward`] and the output's gradient.
pub(super) fn backward<B: Backend>(
    heads: &Heads<B>,
    [out, sums]: [FloatTensor<B>; 2],
    d_out: FloatTensor<B>,
) -> [FloatTensor<B>; 3] {
    // The sum over keys of weight times its gradient, [B, H, T, 1].
    let shared = B::float_sum_dim(B::float_mul(d_out.clone(), out), 3);
    let d_out = heads.operand(d_out);
    let mut d_queries = Vec::new();
    let mut d_others: Option<[FloatTensor<B>; 2]> = None;
    // The last chunk sees all keys, earlier chunks only the first ones. So it is computed first and the others add to
    // it.
    for rows in chunks(heads.time, heads.n_rows).rev() {
        let here = |x: &FloatTensor<B>| narrow::<B>(x.clone(), 2, rows.clone());
        let (keys, values) = (heads.seen(&heads.keys, &rows), heads.seen(&heads.values, &rows));
        let dropped = heads.dropped(&rows);
        let weights = B::float_exp(B::float_sub(heads.scores(&rows), here(&sums)));
        let d_mixed = heads.grouped(here(&d_out));
        let d_weights = dropped(heads.by_head(product::<B>(d_mixed.clone(), B::float_transpose(values))));
        let d_scores = B::float_mul(weights.clone(), B::float_sub(d_weights, here(&shared)));
        let [weights, d_scores] = [dropped(weights), d_scores].map(|x| heads.grouped(heads.operand(x)));
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

/// Scaled queries, `[B, H, T, D]`, keys and values, `[B, KV, S, D]`, in the precision of products. The queries are the
/// last T of the S positions.
#[derive(Debug, Clone)]
pub(super) struct Heads<B: Backend> {
    queries: FloatTensor<B>,
    keys: FloatTensor<B>,
    values: FloatTensor<B>,
    /// The first position of the document of each query, `[B, 1, T, 1]`; `None` if there is one document.
    starts: Option<IntTensor<B>>,
    /// Dropout of the attention weights, `[B, H, T, S]`.
    mask: Option<Mask>,
    /// Queries per chunk.
    n_rows: usize,
    precision: Precision,
    batch: usize,
    n_head: usize,
    n_kv_head: usize,
    time: usize,
    /// Positions before the first query.
    n_before: usize,
    scale: f64,
}

impl<B: Backend> Heads<B> {
    pub(super) fn new(
        [queries, keys, values]: [FloatTensor<B>; 3],
        documents: Option<&Documents>,
        mask: Option<Mask>,
        n_rows: usize,
        precision: Precision,
    ) -> Self {
        let [batch, n_head, time, head_dim] = queries.shape().dims();
        let [_, n_kv_head, n_positions, _] = keys.shape().dims();
        let n_before = n_positions - time;
        let scale = 1.0 / (head_dim as f64).sqrt();
        let starts = documents.map(|documents| {
            let starts = B::int_from_data(index_data(documents.starts()), &queries.device());
            B::int_reshape(starts, [batch, 1, time, 1].into())
        });
        let queries = B::float_mul_scalar(queries, scale.into());
        let [queries, keys, values] = [queries, keys, values].map(|x| operand::<B>(x, precision));
        Self {
            queries,
            keys,
            values,
            starts,
            mask,
            n_rows,
            precision,
            batch,
            n_head,
            n_kv_head,
            time,
            n_before,
            scale,
        }
    }

    fn operand(&self, x: FloatTensor<B>) -> FloatTensor<B> {
        operand::<B>(x, self.precision)
    }

    /// The number of positions visible to the last of `rows`.
    fn n_seen(&self, rows: &Range<usize>) -> usize {
        self.n_before + rows.end
    }

    /// The keys or values visible to the last of `rows`.
    fn seen(&self, x: &FloatTensor<B>, rows: &Range<usize>) -> FloatTensor<B> {
        narrow::<B>(x.clone(), 2, 0..self.n_seen(rows))
    }

    /// `[B, H, R, N]` to `[B, KV, H/KV · R, N]`: stacks the query heads of each key/value head.
    fn grouped(&self, x: FloatTensor<B>) -> FloatTensor<B> {
        let [_, _, n_rows, width] = x.shape().dims();
        reshaped::<B, 4>(x, [self.batch, self.n_kv_head, self.n_head / self.n_kv_head * n_rows, width])
    }

    /// The inverse of [`Heads::grouped`].
    fn by_head(&self, x: FloatTensor<B>) -> FloatTensor<B> {
        let [_, _, n_rows, width] = x.shape().dims();
        reshaped::<B, 4>(x, [self.batch, self.n_head, n_rows * self.n_kv_head / self.n_head, width])
    }

    /// The scores of the queries `rows` over the positions visible to the last of them, `[B, H, R, S']`, with -∞ for
    /// the future and for other documents.
    fn scores(&self, rows: &Range<usize>) -> FloatTensor<B> {
        let queries = self.grouped(narrow::<B>(self.queries.clone(), 2, rows.clone()));
        let keys = B::float_transpose(self.seen(&self.keys, rows));
        let scores = self.by_head(product::<B>(queries, keys));

        let (device, n_seen) = (scores.device(), self.n_seen(rows));
        let position = arange::<B>(self.n_before + rows.start..n_seen, &device);
        let position = B::int_reshape(position, [rows.len(), 1].into());
        let other = B::int_reshape(arange::<B>(0..n_seen, &device), [1, n_seen].into());
        let booleans = get_device_settings::<B>(&device).bool_dtype;
        let is_future = B::int_lower(position, other.clone(), booleans);
        let mut is_hidden = B::bool_expand(is_future, scores.shape());
        if let Some(starts) = &self.starts {
            let starts = narrow_int::<B>(starts.clone(), 2, rows.clone());
            let shape: Shape = [self.batch, 1, rows.len(), n_seen].into();
            let other = B::int_expand(B::int_reshape(other, [1, 1, 1, n_seen].into()), shape.clone());
            let is_earlier = B::int_lower(other, B::int_expand(starts, shape), booleans);
            is_hidden = B::bool_or(is_hidden, B::bool_expand(is_earlier, scores.shape()));
        }
        B::float_mask_fill(scores, is_hidden, f32::NEG_INFINITY.into())
    }

    /// Applies dropout to the weights of the queries `rows`, or to their gradients.
    fn dropped(&self, rows: &Range<usize>) -> impl Fn(FloatTensor<B>) -> FloatTensor<B> {
        let mask = self.mask.map(|mask| {
            let is_dropped = is_dropped::<B>(mask, self.mask_rows(rows), self.n_seen(rows));
            let shape = [self.batch, self.n_head, rows.len(), self.n_seen(rows)];
            (mask, B::bool_reshape(is_dropped, shape.into()))
        });
        move |x| match &mask {
            Some((mask, is_dropped)) => drop_out::<B>(x, is_dropped.clone(), *mask),
            None => x,
        }
    }

    /// The mask's row indices for the queries `rows` of all heads.
    fn mask_rows(&self, rows: &Range<usize>) -> IntTensor<B> {
        let (n_heads, device) = (self.batch * self.n_head, self.queries.device());
        let time = i64::try_from(self.time).expect("positions are far below 2^63");
        let heads = B::int_mul_scalar(arange::<B>(0..n_heads, &device), time.into());
        let heads = B::int_reshape(heads, [n_heads, 1].into());
        let rows_of_one = B::int_reshape(arange::<B>(rows.clone(), &device), [1, rows.len()].into());
        B::int_reshape(B::int_add(heads, rows_of_one), [n_heads * rows.len()].into())
    }
}
