//! Attention of a block of one head's queries over the keys up to its last one.

use super::{
    dropout::Mask,
    gemm::multiply,
    heads::Preparation,
    math::{exp, max},
    matrix::Matrix,
    packed::Packed,
    simd_level::SimdLevel,
    store::Store,
};

/// Rows of scores made at a time, at most.
pub(super) const MAX_QUERIES: usize = 96;

/// A multiple of the rows in a tile of a product.
const TILE: usize = 12;

/// Numbers of a block of scores, which stays in the second-level cache beside its gradients.
const BLOCK_SIZE: usize = 1 << 16;

/// Queries in a block where there are `n_keys` keys: a quarter, so that most of the future is skipped, in whole tiles.
pub(super) fn n_queries(n_keys: usize) -> usize {
    let most = (BLOCK_SIZE / n_keys.max(1)).clamp(TILE, MAX_QUERIES) / TILE * TILE;
    (n_keys / 4).next_multiple_of(TILE).clamp(TILE, most)
}

/// 1 / √D: a sum of D products of unit variance gets unit variance.
pub(super) fn scale(head_dim: usize) -> f32 {
    1.0 / (head_dim as f32).sqrt()
}

/// The keys of a head, prepared, and its values, as the products of a block read them.
#[derive(Default)]
pub(super) struct PackedHead {
    /// `[D, S]`.
    pub(super) keys_transposed: Packed,
    /// `[S, D]`.
    pub(super) values: Packed,
}

/// Memory for a block of queries.
#[derive(Default)]
pub(super) struct BlockMemory {
    /// Queries, where they are not taken as they are.
    pub(super) queries: Vec<f32>,
    pub(super) probs: Vec<f32>,
    pub(super) rows: Vec<f32>,
}

/// A block of one head's queries.
pub(super) struct QueryBlock<'a> {
    /// `[n, D]`, as they are in the input.
    pub(super) rows: Matrix<'a>,
    pub(super) preparation: Preparation<'a>,
    /// The position of the first; that of the first key is 0.
    pub(super) first: usize,
    /// Dropout of the attention weights, with the number of the first query's row in its stream.
    pub(super) mask: Option<(Mask, u64)>,
}

impl QueryBlock<'_> {
    /// Puts the output of each query where `out` says. `sums` gets two numbers for each query: the largest score, and one
    /// over the sum of the exponentials relative to it.
    pub(super) fn mix<'o>(
        self,
        level: SimdLevel,
        head: &PackedHead,
        sums: &mut [f32],
        memory: &mut BlockMemory,
        out: impl Fn(usize) -> &'o mut [f32],
    ) {
        let Self { rows, preparation, first, mask } = self;
        let (n, head_dim) = (rows.rows(), rows.cols());
        let (end, scale) = (first + n, scale(head_dim));
        let queries = preparation.forward(level, rows, first, &mut memory.queries);
        let probs = sized(&mut memory.probs, n * end);
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
                    if let Some((mask, first_row)) = mask {
                        mask.apply(first_row + row as u64, seen);
                    }
                    *sums = [largest, 1.0 / sum];
                }
            },
        );
        let mixed = sized(&mut memory.rows, n * head_dim);
        multiply(level, Matrix::new(probs, n, end), &head.values, mixed, head_dim, Store::Overwrite);
        let rows = mixed.chunks_exact(head_dim).zip(sums.as_chunks::<2>().0);
        for (row, (mixed, [_, scale])) in rows.enumerate() {
            for (out, mixed) in out(row).iter_mut().zip(mixed) {
                *out = mixed * scale;
            }
        }
    }
}

/// Replaces each `x` by exp(scale · x - offset), and returns their sum.
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

/// A memory made `n` numbers long, whatever they are.
pub(super) fn sized(memory: &mut Vec<f32>, n: usize) -> &mut [f32] {
    memory.resize(n, 0.0);
    memory
}
