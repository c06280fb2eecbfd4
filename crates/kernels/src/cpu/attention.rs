//! Causal multi-head attention, one head of one sequence after another on each core.
//!
//! Blocks of queries meet all keys up to their last one, so the future is skipped but for the blocks on the
//! diagonal, and no more than one block of scores exists on a core. The backward pass makes the
//! probabilities again from the logarithm of each row's sum
//! ([Dao et al., 2022](https://arxiv.org/abs/2205.14135), section 3.1, on cache lines instead of tiles).

use std::cell::Cell;

use super::{
    dropout::Mask,
    gemm::{Onto, multiply},
    level::Level,
    math::{dot, exp, max},
    matrix::Matrix,
    packed::Packed,
    parallel::{self, Buffer, Shared, SharedBuffer},
};

/// Rows of scores made at a time, at most.
const MAX_QUERIES: usize = 96;

/// A multiple of the rows in a tile of a product.
const TILE: usize = 12;

/// Numbers of a block of scores, which stays in the second-level cache beside its gradients.
const BLOCK_SIZE: usize = 1 << 16;

/// The sizes of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) batch: usize,
    pub(crate) time: usize,
    pub(crate) n_head: usize,
    pub(crate) head_dim: usize,
}

impl Sizes {
    fn channels(self) -> usize {
        self.n_head * self.head_dim
    }

    fn scale(self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// A quarter of the time, so that most of the future is skipped, in whole tiles.
    fn n_queries(self) -> usize {
        let most = (BLOCK_SIZE / self.time.max(1)).clamp(TILE, MAX_QUERIES) / TILE * TILE;
        (self.time / 4).next_multiple_of(TILE).clamp(TILE, most)
    }

    /// The queries (part 0), keys (1) or values (2) of one head, `[T, D]`.
    fn part(self, qkv: &[f32], head: Head, part: usize) -> Matrix<'_> {
        let channels = self.channels();
        let start = head.batch * self.time * 3 * channels + part * channels + head.head * self.head_dim;
        Matrix::strided(&qkv[start..], self.time, self.head_dim, 3 * channels)
    }

    /// Where `[B, T, width]` has a head's numbers of one position, its channels beginning at `first`.
    fn row(self, head: Head, time: usize, width: usize, first: usize) -> std::ops::Range<usize> {
        let start = (head.batch * self.time + time) * width + first + head.head * self.head_dim;
        start..start + self.head_dim
    }

    fn each_head(self, task: impl Fn(Head, &mut Scratch) + Sync) {
        parallel::each(self.batch * self.n_head, |idx| {
            let mut scratch = SCRATCH.take().unwrap_or_default();
            task(Head { batch: idx / self.n_head, head: idx % self.n_head, idx }, &mut scratch);
            SCRATCH.set(Some(scratch));
        });
    }
}

/// One head of one sequence.
#[derive(Clone, Copy)]
struct Head {
    batch: usize,
    head: usize,
    /// Its number among all, which is also that of its stream of dropout masks.
    idx: usize,
}

impl Head {
    fn mask_row(self, sizes: Sizes, time: usize) -> u64 {
        (self.idx * sizes.time + time) as u64
    }
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// Memory of a core, kept from head to head.
#[derive(Default)]
struct Scratch {
    keys_transposed: Packed,
    values_transposed: Packed,
    keys: Packed,
    values: Packed,
    /// One block of queries, or of gradients of the output.
    block: Packed,
    probs: Vec<f32>,
    d_scores: Vec<f32>,
    rows: Vec<f32>,
    d_keys: Vec<f32>,
    d_values: Vec<f32>,
}

/// The output `[B, T, C]`, and what the backward pass needs of each row of scores, `[B, H, T, 2]`: the largest, and one
/// over the sum of their exponentials relative to it.
pub(crate) fn forward(level: Level, qkv: &[f32], sizes: Sizes, mask: Option<Mask>) -> (Vec<f32>, Vec<f32>) {
    let Sizes { batch, time, n_head, head_dim } = sizes;
    let mut out = Buffer::new(batch * time * sizes.channels());
    let mut sums = Buffer::new(2 * batch * n_head * time);
    let (shared_out, shared_sums) = (out.shared(), sums.shared());
    sizes.each_head(|head, scratch| {
        let [q, k, v] = [0, 1, 2].map(|part| sizes.part(qkv, head, part));
        scratch.keys_transposed.renew(level, k.transposed());
        scratch.values.renew(level, v);
        // SAFETY: each head has its own.
        let sums = unsafe { shared_sums.zeroed(2 * head.idx * time..2 * (head.idx + 1) * time) };
        for start in (0..time).step_by(sizes.n_queries()) {
            let end = (start + sizes.n_queries()).min(time);
            let n = end - start;
            let probs = sized(&mut scratch.probs, n * end);
            multiply(level, q.row_range(start..end), &scratch.keys_transposed, probs, end, Onto::Nothing);
            let mut scales = [0.0; MAX_QUERIES];
            level.vectorize(
                #[inline(always)]
                || {
                    for (row, probs) in probs.chunks_exact_mut(end).enumerate() {
                        let (seen, future) = probs.split_at_mut(start + row + 1);
                        let largest = max(seen);
                        let sum = exponentiate(seen, sizes.scale(), largest * sizes.scale());
                        future.fill(0.0);
                        if let Some(mask) = mask {
                            mask.apply(head.mask_row(sizes, start + row), seen);
                        }
                        scales[row] = 1.0 / sum;
                        sums[2 * (start + row)..][..2].copy_from_slice(&[largest * sizes.scale(), 1.0 / sum]);
                    }
                },
            );
            let mixed = sized(&mut scratch.rows, n * head_dim);
            multiply(level, Matrix::new(probs, n, end), &scratch.values, mixed, head_dim, Onto::Nothing);
            for ((row, mixed), scale) in mixed.chunks_exact(head_dim).enumerate().zip(scales) {
                // SAFETY: each head has its own channels of each position.
                let out = unsafe { shared_out.zeroed(sizes.row(head, start + row, sizes.channels(), 0)) };
                for (out, mixed) in out.iter_mut().zip(mixed) {
                    *out = mixed * scale;
                }
            }
        }
    });
    // SAFETY: the heads of all sequences cover both.
    unsafe { (out.finish(), sums.finish()) }
}

/// The gradient of `qkv`, `[B, T, 3C]`, from that of the output. `out` and `sums` are what [`forward`] gave.
pub(crate) fn backward(
    level: Level,
    qkv: &[f32],
    out: &[f32],
    sums: &[f32],
    d_out: &[f32],
    sizes: Sizes,
    mask: Option<Mask>,
) -> Vec<f32> {
    let Sizes { batch, time, head_dim, .. } = sizes;
    let channels = sizes.channels();
    let mut d_qkv = Buffer::new(batch * time * 3 * channels);
    let shared = d_qkv.shared();
    sizes.each_head(|head, scratch| {
        let [q, k, v] = [0, 1, 2].map(|part| sizes.part(qkv, head, part));
        let start = head.batch * time * channels + head.head * head_dim;
        let d_out_head = Matrix::strided(&d_out[start..], time, head_dim, channels);
        scratch.keys_transposed.renew(level, k.transposed());
        scratch.values_transposed.renew(level, v.transposed());
        scratch.keys.renew(level, k);
        sized(&mut scratch.d_keys, time * head_dim).fill(0.0);
        sized(&mut scratch.d_values, time * head_dim).fill(0.0);
        for start in (0..time).step_by(sizes.n_queries()) {
            let end = (start + sizes.n_queries()).min(time);
            let n = end - start;
            let probs = sized(&mut scratch.probs, n * end);
            let d_scores = sized(&mut scratch.d_scores, n * end);
            let (queries, d_rows) = (q.row_range(start..end), d_out_head.row_range(start..end));
            multiply(level, queries, &scratch.keys_transposed, probs, end, Onto::Nothing);
            multiply(level, d_rows, &scratch.values_transposed, d_scores, end, Onto::Nothing);
            level.vectorize(
                #[inline(always)]
                || {
                    let rows = probs.chunks_exact_mut(end).zip(d_scores.chunks_exact_mut(end));
                    for (row, (probs, d_scores)) in rows.enumerate() {
                        let position = start + row;
                        let (seen, future) = probs.split_at_mut(position + 1);
                        let (d_seen, d_future) = d_scores.split_at_mut(position + 1);
                        let sums = &sums[2 * (head.idx * time + position)..][..2];
                        exponentiate(seen, sizes.scale(), sums[0]);
                        future.fill(0.0);
                        d_future.fill(0.0);
                        let range = sizes.row(head, position, channels, 0);
                        let mean = dot(&out[range.clone()], &d_out[range]);
                        if let Some(mask) = mask {
                            mask.apply(head.mask_row(sizes, position), d_seen);
                        }
                        for (d_score, prob) in d_seen.iter_mut().zip(&mut *seen) {
                            *prob *= sums[1];
                            *d_score = *prob * (*d_score - mean) * sizes.scale();
                        }
                        if let Some(mask) = mask {
                            mask.apply(head.mask_row(sizes, position), seen);
                        }
                    }
                },
            );
            let (probs, d_scores) = (Matrix::new(probs, n, end), Matrix::new(d_scores, n, end));
            scratch.block.renew(level, d_rows);
            let d_values = &mut scratch.d_values[..end * head_dim];
            multiply(level, probs.transposed(), &scratch.block, d_values, head_dim, Onto::What);
            scratch.block.renew(level, queries);
            let d_keys = &mut scratch.d_keys[..end * head_dim];
            multiply(level, d_scores.transposed(), &scratch.block, d_keys, head_dim, Onto::What);
            let d_queries = sized(&mut scratch.rows, n * head_dim);
            multiply(level, d_scores, &scratch.keys, d_queries, head_dim, Onto::Nothing);
            // SAFETY: each head has its own channels of each position, and queries, keys and values theirs.
            unsafe { write_rows(shared, d_queries, sizes, head, start, 0) };
        }
        // SAFETY: as above.
        unsafe {
            write_rows(shared, &scratch.d_keys, sizes, head, 0, channels);
            write_rows(shared, &scratch.d_values, sizes, head, 0, 2 * channels);
        }
    });
    // SAFETY: the heads of all sequences cover the queries, keys and values of all positions.
    unsafe { d_qkv.finish() }
}

/// Puts rows `[_, D]` of one head where `[B, T, 3C]` has them, from position `start` on.
///
/// # Safety
///
/// Nobody else has a part of these rows.
unsafe fn write_rows(
    out: SharedBuffer<'_>,
    rows: &[f32],
    sizes: Sizes,
    head: Head,
    start: usize,
    first: usize,
) {
    for (row, values) in rows.chunks_exact(sizes.head_dim).enumerate() {
        // SAFETY: rows do not overlap, and nobody else has a part of them.
        let out = unsafe { out.zeroed(sizes.row(head, start + row, 3 * sizes.channels(), first)) };
        out.copy_from_slice(values);
    }
}

/// Replaces each `x` by exp(scale · x - offset), and returns their sum.
#[inline(always)]
fn exponentiate(values: &mut [f32], scale: f32, offset: f32) -> f32 {
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
fn sized(memory: &mut Vec<f32>, n: usize) -> &mut [f32] {
    memory.resize(n, 0.0);
    memory
}

/// Keys and values of positions seen before, each `[B, H, capacity, D]`, of which `len` are filled.
pub(crate) struct Cache<'a> {
    pub(crate) keys: &'a mut [f32],
    pub(crate) values: &'a mut [f32],
    pub(crate) len: usize,
}

/// As [`forward`], over the positions in a cache as well; those of `qkv` are written behind them.
pub(crate) fn cached(level: Level, qkv: &[f32], cache: Cache<'_>, sizes: Sizes) -> Vec<f32> {
    let Sizes { batch, time, n_head, head_dim } = sizes;
    let (len, head_size) = (cache.len, cache.keys.len() / (batch * n_head));
    let whole = (len == 0 && time > 1).then(|| forward(level, qkv, sizes, None).0);
    let mut out = Buffer::new(if whole.is_some() { 0 } else { batch * time * sizes.channels() });
    let shared_out = out.shared();
    let (keys, values) = (Shared::new(cache.keys), Shared::new(cache.values));
    parallel::pieces(batch * n_head, 1, 2 * (len + time) * head_dim, |heads| {
        let mut scores = vec![0.0; len + time];
        for idx in heads {
            let head = Head { batch: idx / n_head, head: idx % n_head, idx };
            let [q, k, v] = [0, 1, 2].map(|part| sizes.part(qkv, head, part));
            let memory = idx * head_size..(idx + 1) * head_size;
            // SAFETY: each head has its own.
            let (keys, values) = unsafe { (keys.part(memory.clone()), values.part(memory)) };
            for t in 0..time {
                let row = (len + t) * head_dim..(len + t + 1) * head_dim;
                keys[row.clone()].copy_from_slice(k.row(t));
                values[row].copy_from_slice(v.row(t));
            }
            if whole.is_some() {
                continue;
            }
            for t in 0..time {
                let seen = len + t + 1;
                // SAFETY: each head has its own channels of each position.
                let out = unsafe { shared_out.zeroed(sizes.row(head, t, sizes.channels(), 0)) };
                level.vectorize(
                    #[inline(always)]
                    || {
                        let scores = &mut scores[..seen];
                        for (score, key) in scores.iter_mut().zip(keys.chunks_exact(head_dim)) {
                            *score = dot(q.row(t), key);
                        }
                        let largest = max(scores);
                        let sum = exponentiate(scores, sizes.scale(), largest * sizes.scale());
                        for (prob, value) in scores.iter().zip(values.chunks_exact(head_dim)) {
                            for (out, value) in out.iter_mut().zip(value) {
                                *out += prob * value;
                            }
                        }
                        for out in &mut *out {
                            *out /= sum;
                        }
                    },
                );
            }
        }
    });
    // SAFETY: the heads of all sequences cover all positions, where it is not empty.
    whole.unwrap_or_else(|| unsafe { out.finish() })
}
