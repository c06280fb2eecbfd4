//! Causal attention in chunks of queries, so that only the scores of one chunk exist at a time.
//!
//! After [Rabe and Staats, 2021](https://arxiv.org/abs/2112.05682); a chunk of queries sees all its keys in one
//! product. The backward pass recomputes a chunk's scores, as in section 3.1 of
//! [FlashAttention](https://arxiv.org/abs/2205.14135).

use std::ops::Range;

use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};
use cpu::{Precision, dropout::Mask};

use super::{
    kernels::{GpuKernels, ScoreChunk},
    primitive::{chunks, narrow, operand, reshaped},
};

/// The output, `[B, T, H · D]`, in the precision of products.
pub(super) fn forward<B: GpuKernels>(heads: &Heads<B>) -> FloatTensor<B> {
    let mut channels = None;
    for rows in chunks(heads.time, heads.n_rows) {
        let weights = B::attention_weights(heads.scores(&rows), heads.starts(), heads.chunk(&rows));
        let mixed = B::product(heads.grouped(weights), heads.seen(&heads.values, &rows), heads.precision);
        let mixed = heads.by_head(mixed);
        channels = Some(match channels {
            None => B::first_heads(mixed, heads.time),
            Some(channels) => B::put_heads(channels, mixed, rows.start),
        });
    }
    channels.expect("there is a position")
}

/// The gradients of queries, keys and values, given that of the output; those of queries in the precision of products.
pub(super) fn backward<B: GpuKernels>(heads: &Heads<B>, d_out: FloatTensor<B>) -> [FloatTensor<B>; 3] {
    let d_out = B::to_heads(d_out, heads.n_head, heads.precision);
    let mut d_queries = Vec::new();
    let mut d_others: Option<[FloatTensor<B>; 2]> = None;
    // The last chunk sees all keys, earlier chunks only the first ones. So it is computed first and the others add to
    // it.
    for rows in chunks(heads.time, heads.n_rows).rev() {
        let here = |x: &FloatTensor<B>| heads.grouped(narrow::<B>(x.clone(), 2, rows.clone()));
        let (keys, values) = (heads.seen(&heads.keys, &rows), heads.seen(&heads.values, &rows));
        let d_mixed = here(&d_out);
        let d_weights = B::product(d_mixed.clone(), B::float_transpose(values), heads.precision);
        let (weights, d_scores) = B::attention_gradients(
            heads.scores(&rows),
            heads.by_head(d_weights),
            heads.starts(),
            heads.chunk(&rows),
        );
        let [weights, d_scores] = [weights, d_scores].map(|x| heads.grouped(x));
        d_queries.push(heads.by_head(B::product(d_scores.clone(), keys, heads.precision)));
        let d_keys = B::product(B::float_transpose(d_scores), here(&heads.queries), Precision::F32);
        let d_values = B::product(B::float_transpose(weights), d_mixed, Precision::F32);
        d_others = Some(match d_others {
            None => [d_keys, d_values],
            Some([keys, values]) => [B::add_to_first(keys, d_keys), B::add_to_first(values, d_values)],
        });
    }
    d_queries.reverse();
    let [d_keys, d_values] = d_others.expect("there is a position");
    let d_queries = if d_queries.len() == 1 { d_queries.remove(0) } else { B::float_cat(d_queries, 2) };
    [d_queries, d_keys, d_values]
}

/// Queries, `[B, H, T, D]`, keys and values, `[B, KV, S, D]`, in the precision of products. The queries are the last T
/// of the S positions.
#[derive(Debug, Clone)]
pub(super) struct Heads<B: Backend> {
    queries: FloatTensor<B>,
    keys: FloatTensor<B>,
    values: FloatTensor<B>,
    /// The first position that each query sees, `[B, T]`; `None` if they see all earlier positions.
    starts: Option<FloatTensor<B>>,
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
    scale: f32,
}

impl<B: GpuKernels> Heads<B> {
    pub(super) fn new(
        [queries, keys, values]: [FloatTensor<B>; 3],
        starts: Option<FloatTensor<B>>,
        mask: Option<Mask>,
        n_rows: usize,
        precision: Precision,
    ) -> Self {
        let [batch, n_head, time, head_dim] = queries.shape().dims();
        let [_, n_kv_head, n_positions, _] = keys.shape().dims();
        #[expect(clippy::cast_possible_truncation, reason = "scores are f32")]
        let scale = (1.0 / (head_dim as f64).sqrt()) as f32;
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
            n_before: n_positions - time,
            scale,
        }
    }

    fn chunk(&self, rows: &Range<usize>) -> ScoreChunk {
        ScoreChunk {
            n_rows: rows.len(),
            first: rows.start,
            time: self.time,
            n_before: self.n_before,
            has_starts: self.starts.is_some(),
            scale: self.scale,
            mask: self.mask,
            precision: self.precision,
        }
    }

    /// The starts, or any tensor without them.
    fn starts(&self) -> FloatTensor<B> {
        self.starts.as_ref().unwrap_or(&self.queries).clone()
    }

    /// The keys or values visible to the last of `rows`.
    fn seen(&self, x: &FloatTensor<B>, rows: &Range<usize>) -> FloatTensor<B> {
        narrow::<B>(x.clone(), 2, 0..self.n_before + rows.end)
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

    /// The unscaled scores of the queries `rows` over the positions before the end of the last of them, `[B, H, R, S']`.
    /// Those of positions that a query does not see are undefined.
    fn scores(&self, rows: &Range<usize>) -> FloatTensor<B> {
        let queries = self.grouped(narrow::<B>(self.queries.clone(), 2, rows.clone()));
        let keys = B::float_transpose(self.seen(&self.keys, rows));
        self.by_head(B::product(queries, keys, self.precision))
    }
}
