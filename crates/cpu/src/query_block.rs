//! Attention of one head for a block of queries, over all keys up to the last query.

use super::{
    dropout::MaskPart,
    gemm::multiply,
    heads::QkTransform,
    math::{exp, max},
    matrix::Matrix,
    packed::Packed,
    simd_level::SimdLevel,
    store::Store,
};

/// Maximum queries per block.
pub(super) const MAX_QUERIES: usize = 96;

/// A multiple of the rows of a tile on every SIMD level.
const TILE: usize = 12;

/// Scores per block, which fit the L2 cache together with their gradients.
const BLOCK_SIZE: usize = 1 << 16;

/// Queries per block for `n_keys` keys: a quarter of them, so that most of the future is skipped, in whole tiles.
pub(super) fn n_queries(n_keys: usize) -> usize {
    let most = (BLOCK_SIZE / n_keys.max(1)).clamp(TILE, MAX_QUERIES) / TILE * TILE;
    (n_keys / 4).next_multiple_of(TILE).clamp(TILE, most)
}

/// 1 / √D: a sum of D products of unit variance gets unit variance.
pub(super) fn scale(head_dim: usize) -> f32 {
    1.0 / (head_dim as f32).sqrt()
}

/// The packed keys of a head, after QK norm and RoPE, and its packed values.
#[derive(Default)]
pub(super) struct PackedHead {
    /// `[D, S]`.
    pub(super) keys_transposed: Packed,
    /// `[S, D]`.
    pub(super) values: Packed,
}

/// Buffers for a block of queries.
#[derive(Default)]
pub(super) struct BlockBuffers {
    /// Queries after QK norm and RoPE.
    pub(super) queries: Vec<f32>,
    pub(super) probs: Vec<f32>,
    pub(super) rows: Vec<f32>,
}

/// A block of one head's queries.
pub(super) struct QueryBlock<'a> {
    /// `[n, D]`, before QK norm and RoPE.
    pub(super) rows: Matrix<'a>,
    pub(super) transform: QkTransform<'a>,
    /// The position of the first query. The first key is at position 0.
    pub(super) first: usize,
    /// Dropout of the attention weights, `[S, S]`.
    pub(super) mask: Option<MaskPart>,
}

impl QueryBlock<'_> {
    /// Writes the output of query i of the block to `out(i)`. `sums` receives the softmax statistics of each query: the
    /// maximum score m, and `1 / Σ exp(score - m)`.
    pub(super) fn attend<'o>(
        self,
        level: SimdLevel,
        head: &PackedHead,
        sums: &mut [f32],
        buffers: &mut BlockBuffers,
        out: impl Fn(usize) -> &'o mut [f32],
    ) {
        let Self { rows, transform, first, mask } = self;
        let (n, head_dim) = (rows.rows(), rows.cols());
        let (end, scale) = (first + n, scale(head_dim));
        let queries = transform.forward(level, rows, first, &mut buffers.queries);
        let probs = resized(&mut buffers.probs, n * end);
        multiply(level, queries, &head.keys_transposed, probs, end, Store::Overwrite);
        level.vectorize(
            #[inline(always)]
            || {
                let rows = probs.chunks_exact_mut(end).zip(sums.as_chunks_mut::<2>().0);
                for (row, (probs, sums)) in rows.enumerate() {
                    let (seen, future) = probs.split_at_mut(first + row + 1);
                    let largest = max(seen) * scale;
                    let sum = exponentiate(seen, scale, largest);
                    future.fill(0.0);
                    if let Some(mask) = mask {
                        mask.apply(first + row, seen);
                    }
                    *sums = [largest, 1.0 / sum];
                }
            },
        );
        let mixed = resized(&mut buffers.rows, n * head_dim);
        multiply(level, Matrix::new(probs, n, end), &head.values, mixed, head_dim, Store::Overwrite);
        let rows = mixed.chunks_exact(head_dim).zip(sums.as_chunks::<2>().0);
        for (row, (mixed, [_, scale])) in rows.enumerate() {
            for (out, mixed) in out(row).iter_mut().zip(mixed) {
                *out = mixed * scale;
            }
        }
    }
}

/// Replaces each `x` by exp(scale · x - offset), and returns the sum.
#[inline(always)]
pub(super) fn exponentiate(values: &mut [f32], scale: f32, offset: f32) -> f32 {
    let (chunks, rest) = values.as_chunks_mut::<16>();
    let mut sums = [0.0; 16];
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *x = exp(*x * scale - offset);
            *sum += *x;
        }
    }
    let mut sum = sums.iter().sum();
    for x in rest {
        *x = exp(*x * scale - offset);
        sum += *x;
    }
    sum
}

/// Resizes a buffer to `n` elements of unspecified value.
pub(super) fn resized(buffer: &mut Vec<f32>, n: usize) -> &mut [f32] {
    buffer.resize(n, 0.0);
    buffer
}
