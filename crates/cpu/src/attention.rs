//! Causal multi-head attention.
//!
//! A task is one head of keys and values of one sequence, with the heads of queries that it serves. Where these are fewer than
//! the cores, a task of the forward pass is a block of queries.
//!
//! Blocks of queries meet all keys up to their last one, so the future is skipped but for the blocks on the
//! diagonal, and no more than one block of scores exists on a core. The backward pass makes the
//! probabilities again from the logarithm of each row's sum
//! ([Dao et al., 2022](https://arxiv.org/abs/2205.14135), section 3.1, on cache lines instead of tiles).

use std::cell::Cell;

use super::{
    dropout::Mask,
    gemm::multiply,
    heads::{HeadLayout, Preparation},
    math::dot,
    matrix::Matrix,
    packed::Packed,
    parallel::{self, Buffer, SharedBuffer},
    query_block::{BlockMemory, PackedHead, QueryBlock, exponentiate, n_queries, scale, sized},
    scratch::with_scratch,
    simd_level::SimdLevel,
    store::Store,
};

/// What attention is asked for.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// `[B, T, (H + 2 KV) · D]`: the queries of all heads, then their keys, then their values.
    pub qkv: &'a [f32],
    /// Of the norms of queries and of keys; empty where there are none.
    pub gains: [&'a [f32]; 2],
    /// How queries and keys are prepared.
    pub layout: &'a HeadLayout,
    /// B, T, H, KV and D.
    pub sizes: Sizes,
    /// Dropout of the attention weights.
    pub mask: Option<Mask>,
}

impl<'a> Call<'a> {
    /// Of queries, and of keys.
    fn preparations(&self) -> [Preparation<'a>; 2] {
        self.layout.preparations(self.gains)
    }

    /// The queries of one head, `[T, D]`, as they are in the input.
    fn queries(&self, head: QueryHead) -> Matrix<'a> {
        self.part(head.batch, head.head * self.sizes.head_dim)
    }

    /// The keys of a group of heads.
    fn keys(&self, group: Group) -> Matrix<'a> {
        self.part(group.batch, self.sizes.first_key(group))
    }

    /// The values of a group of heads.
    fn values(&self, group: Group) -> Matrix<'a> {
        self.part(group.batch, self.sizes.first_value(group))
    }

    fn part(&self, batch: usize, first: usize) -> Matrix<'a> {
        let Sizes { time, head_dim, .. } = self.sizes;
        let width = self.sizes.width();
        Matrix::strided(&self.qkv[batch * time * width + first..], time, head_dim, width)
    }
}

/// The sizes of a call.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Sequences, B.
    pub batch: usize,
    /// Positions, T.
    pub time: usize,
    /// Heads of queries, H, a multiple of KV.
    pub n_head: usize,
    /// Heads of keys and values, KV.
    pub n_kv_head: usize,
    /// Channels of a head, D.
    pub head_dim: usize,
}

impl Sizes {
    /// `[B, T, C]`.
    pub fn output_shape(self) -> [usize; 3] {
        [self.batch, self.time, self.channels()]
    }

    /// Of the queries, and of the output.
    fn channels(self) -> usize {
        self.n_head * self.head_dim
    }

    /// Of the queries, keys and values of all heads.
    fn width(self) -> usize {
        (self.n_head + 2 * self.n_kv_head) * self.head_dim
    }

    fn first_key(self, group: Group) -> usize {
        (self.n_head + group.kv_head) * self.head_dim
    }

    fn first_value(self, group: Group) -> usize {
        (self.n_head + self.n_kv_head + group.kv_head) * self.head_dim
    }

    fn n_groups(self) -> usize {
        self.batch * self.n_kv_head
    }

    /// Queries in a block.
    fn n_queries(self) -> usize {
        n_queries(self.time)
    }

    /// Where `[B, T, width]` has D numbers of one position, beginning at `first`.
    fn row(self, batch: usize, time: usize, width: usize, first: usize) -> std::ops::Range<usize> {
        let start = (batch * self.time + time) * width + first;
        start..start + self.head_dim
    }

    /// Where the output has a head's numbers of one position.
    fn output_row(self, head: QueryHead, time: usize) -> std::ops::Range<usize> {
        self.row(head.batch, time, self.channels(), head.head * self.head_dim)
    }

    fn group(self, idx: usize) -> Group {
        Group { batch: idx / self.n_kv_head, kv_head: idx % self.n_kv_head, idx }
    }

    /// The head of queries of this number among all.
    fn head(self, idx: usize) -> QueryHead {
        QueryHead { batch: idx / self.n_head, head: idx % self.n_head, idx }
    }

    /// The heads of queries of a group.
    fn heads(self, group: Group) -> impl Iterator<Item = QueryHead> {
        let n = self.n_head / self.n_kv_head;
        let Group { batch, kv_head, .. } = group;
        (kv_head * n..(kv_head + 1) * n).map(move |head| self.head(batch * self.n_head + head))
    }

    fn each_group(self, task: impl Fn(Group, &mut Scratch) + Sync) {
        parallel::each(self.n_groups(), |idx| {
            with_scratch(&SCRATCH, |scratch| task(self.group(idx), scratch))
        });
    }

    /// Whether the heads of a group, and blocks of their queries, are worth the while of several cores. Either way the
    /// numbers are the same.
    fn is_split(self) -> bool {
        self.n_groups() < rayon::current_num_threads()
            && self.time * self.time * self.head_dim >= parallel::WORTH_SHARING
    }
}

/// One head of keys and values of one sequence.
#[derive(Clone, Copy)]
struct Group {
    batch: usize,
    kv_head: usize,
    /// Its number among all.
    idx: usize,
}

/// One head of queries of one sequence.
#[derive(Clone, Copy)]
struct QueryHead {
    batch: usize,
    head: usize,
    /// Its number among all, which is also that of its stream of dropout masks.
    idx: usize,
}

impl QueryHead {
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
    block_memory: BlockMemory,
    /// Keys, where they are not taken as they are.
    key_rows: Vec<f32>,
    head: PackedHead,
    keys_transposed: Packed,
    values_transposed: Packed,
    keys: Packed,
    /// One block of queries, or of gradients of the output.
    block: Packed,
    d_scores: Vec<f32>,
    d_keys: Vec<f32>,
    d_values: Vec<f32>,
}

/// The output `[B, T, C]`, and what the backward pass needs of each row of scores, `[B, H, T, 2]`: the largest, and one
/// over the sum of their exponentials relative to it.
pub fn forward(level: SimdLevel, call: &Call<'_>) -> (Vec<f32>, Vec<f32>) {
    let sizes = call.sizes;
    let Sizes { batch, time, n_head, .. } = sizes;
    let [_, of_keys] = call.preparations();
    let mut out = Buffer::new(batch * time * sizes.channels());
    let mut sums = Buffer::new(2 * batch * n_head * time);
    let shared = Outputs { out: out.shared(), sums: sums.shared() };
    let starts = || (0..time).step_by(sizes.n_queries());
    if sizes.is_split() {
        let (mut key_rows, mut packed) = (Vec::new(), PackedHead::default());
        for group in (0..sizes.n_groups()).map(|idx| sizes.group(idx)) {
            let k = of_keys.forward(level, call.keys(group), 0, &mut key_rows);
            packed.keys_transposed.renew_on_all_cores(level, k.transposed());
            packed.values.renew_on_all_cores(level, call.values(group));
            // The last queries of a sequence see most keys: whoever has them begins first.
            let blocks: Vec<(QueryHead, usize)> =
                starts().rev().flat_map(|start| sizes.heads(group).map(move |head| (head, start))).collect();
            parallel::each(blocks.len(), |idx| {
                let (head, start) = blocks[idx];
                // SAFETY: each block of queries is asked for once.
                with_scratch(&SCRATCH, |scratch| unsafe {
                    mix(level, call, head, start, &packed, &mut scratch.block_memory, shared)
                });
            });
        }
    } else {
        sizes.each_group(|group, scratch| {
            let k = of_keys.forward(level, call.keys(group), 0, &mut scratch.key_rows);
            scratch.head.keys_transposed.renew(level, k.transposed());
            scratch.head.values.renew(level, call.values(group));
            for (head, start) in sizes.heads(group).flat_map(|head| starts().map(move |start| (head, start)))
            {
                // SAFETY: as above.
                unsafe { mix(level, call, head, start, &scratch.head, &mut scratch.block_memory, shared) };
            }
        });
    }
    // SAFETY: the heads of all sequences cover both.
    unsafe { (out.finish(), sums.finish()) }
}

/// What [`forward`] gives, while it is made.
#[derive(Clone, Copy)]
struct Outputs<'a> {
    out: SharedBuffer<'a>,
    sums: SharedBuffer<'a>,
}

/// The outputs of a block of a head's queries, from position `start` on.
///
/// # Safety
///
/// Nobody else makes those of the same block.
unsafe fn mix(
    level: SimdLevel,
    call: &Call<'_>,
    head: QueryHead,
    start: usize,
    packed: &PackedHead,
    memory: &mut BlockMemory,
    outputs: Outputs<'_>,
) {
    let sizes = call.sizes;
    let [preparation, _] = call.preparations();
    let end = (start + sizes.n_queries()).min(sizes.time);
    let first = head.idx * sizes.time;
    // SAFETY: each block has its own.
    let sums = unsafe { outputs.sums.zeroed(2 * (first + start)..2 * (first + end)) };
    let block = QueryBlock {
        rows: call.queries(head).row_range(start..end),
        preparation,
        first: start,
        mask: call.mask.map(|mask| (mask, head.mask_row(sizes, start))),
    };
    block.mix(level, packed, sums, memory, |row| {
        // SAFETY: each head has its own channels of each position.
        unsafe { outputs.out.zeroed(sizes.output_row(head, start + row)) }
    });
}

/// The gradients of `qkv` and of both gains, from that of the output. `out` and `sums` are what [`forward`] gave.
pub fn backward(
    level: SimdLevel,
    call: &Call<'_>,
    out: &[f32],
    sums: &[f32],
    d_out: &[f32],
) -> (Vec<f32>, [Vec<f32>; 2]) {
    let Call { sizes, mask, .. } = *call;
    let Sizes { batch, time, head_dim, .. } = sizes;
    let [of_queries, of_keys] = call.preparations();
    let channels = sizes.channels();
    let mut d_qkv = Buffer::new(batch * time * sizes.width());
    let mut d_gains = Buffer::new(sizes.n_groups() * 2 * head_dim);
    let (shared, shared_gains) = (d_qkv.shared(), d_gains.shared());
    sizes.each_group(|group, scratch| {
        let v = call.values(group);
        let k = of_keys.forward(level, call.keys(group), 0, &mut scratch.key_rows);
        scratch.keys_transposed.renew(level, k.transposed());
        scratch.values_transposed.renew(level, v.transposed());
        scratch.keys.renew(level, k);
        sized(&mut scratch.d_keys, time * head_dim).fill(0.0);
        sized(&mut scratch.d_values, time * head_dim).fill(0.0);
        // SAFETY: each group has its own.
        let d_gains =
            unsafe { shared_gains.zeroed(2 * group.idx * head_dim..2 * (group.idx + 1) * head_dim) };
        let (d_query_gain, d_key_gain) = d_gains.split_at_mut(head_dim);
        for head in sizes.heads(group) {
            let q = of_queries.forward(level, call.queries(head), 0, &mut scratch.block_memory.queries);
            let start = head.batch * time * channels + head.head * head_dim;
            let d_out_head = Matrix::strided(&d_out[start..], time, head_dim, channels);
            for start in (0..time).step_by(sizes.n_queries()) {
                let end = (start + sizes.n_queries()).min(time);
                let n = end - start;
                let probs = sized(&mut scratch.block_memory.probs, n * end);
                let d_scores = sized(&mut scratch.d_scores, n * end);
                let (queries, d_rows) = (q.row_range(start..end), d_out_head.row_range(start..end));
                multiply(level, queries, &scratch.keys_transposed, probs, end, Store::Overwrite);
                multiply(level, d_rows, &scratch.values_transposed, d_scores, end, Store::Overwrite);
                level.vectorize(
                    #[inline(always)]
                    || {
                        let rows = probs.chunks_exact_mut(end).zip(d_scores.chunks_exact_mut(end));
                        for (row, (probs, d_scores)) in rows.enumerate() {
                            let position = start + row;
                            let (seen, future) = probs.split_at_mut(position + 1);
                            let (d_seen, d_future) = d_scores.split_at_mut(position + 1);
                            let sums = &sums[2 * (head.idx * time + position)..][..2];
                            exponentiate(seen, scale(head_dim), sums[0]);
                            future.fill(0.0);
                            d_future.fill(0.0);
                            let range = sizes.output_row(head, position);
                            let mean = dot(&out[range.clone()], &d_out[range]);
                            if let Some(mask) = mask {
                                mask.apply(head.mask_row(sizes, position), d_seen);
                            }
                            for (d_score, prob) in d_seen.iter_mut().zip(&mut *seen) {
                                *prob *= sums[1];
                                *d_score = *prob * (*d_score - mean) * scale(head_dim);
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
                multiply(level, probs.transposed(), &scratch.block, d_values, head_dim, Store::Add);
                scratch.block.renew(level, queries);
                let d_keys = &mut scratch.d_keys[..end * head_dim];
                multiply(level, d_scores.transposed(), &scratch.block, d_keys, head_dim, Store::Add);
                let d_queries = sized(&mut scratch.block_memory.rows, n * head_dim);
                multiply(level, d_scores, &scratch.keys, d_queries, head_dim, Store::Overwrite);
                let raw = call.queries(head).row_range(start..end);
                of_queries.backward(level, raw, start, d_queries, d_query_gain);
                // SAFETY: each head has its own channels of each position, and queries, keys and values theirs.
                unsafe { write_rows(shared, d_queries, sizes, head.batch, start, head.head * head_dim) };
            }
        }
        of_keys.backward(level, call.keys(group), 0, &mut scratch.d_keys, d_key_gain);
        // SAFETY: as above.
        unsafe {
            write_rows(shared, &scratch.d_keys, sizes, group.batch, 0, sizes.first_key(group));
            write_rows(shared, &scratch.d_values, sizes, group.batch, 0, sizes.first_value(group));
        }
    });
    // SAFETY: the groups of all sequences cover the queries, keys and values of all positions, and have their gains.
    let (d_qkv, d_gains) = unsafe { (d_qkv.finish(), d_gains.finish()) };
    let mut totals = [(); 2].map(|()| vec![0.0; head_dim]);
    for d_gains in d_gains.chunks_exact(2 * head_dim) {
        for (total, d_gain) in totals.iter_mut().zip(d_gains.chunks_exact(head_dim)) {
            total.iter_mut().zip(d_gain).for_each(|(total, d)| *total += d);
        }
    }
    (d_qkv, totals)
}

/// Puts rows `[_, D]` where `[B, T, width]` has them, from position `start` and channel `first` on.
///
/// # Safety
///
/// Nobody else has a part of these rows.
unsafe fn write_rows(
    out: SharedBuffer<'_>,
    rows: &[f32],
    sizes: Sizes,
    batch: usize,
    start: usize,
    first: usize,
) {
    for (row, values) in rows.chunks_exact(sizes.head_dim).enumerate() {
        // SAFETY: rows do not overlap, and nobody else has a part of them.
        let out = unsafe { out.zeroed(sizes.row(batch, start + row, sizes.width(), first)) };
        out.copy_from_slice(values);
    }
}
