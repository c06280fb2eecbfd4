//! Causal multi-head attention.
//!
//! A task is one key/value head of one document with the query heads that it serves. If there are fewer of these than
//! cores, a task of the forward pass is a block of queries. Without [`Documents`], a sequence is one document.
//!
//! A block of queries is multiplied with all keys up to its last position. This skips the future except in the blocks
//! on the diagonal, and each core holds at most one block of scores. The backward pass recomputes the probabilities
//! from the softmax statistics of each row ([Dao et al., 2022](https://arxiv.org/abs/2205.14135), section 3.1, with
//! blocks that fit the CPU's caches).

use std::{cell::Cell, cmp::Reverse};

use super::{
    documents::{Document, Documents},
    dropout::{Mask, MaskPart},
    gemm::multiply,
    heads::{HeadLayout, QkTransform},
    math::dot,
    matrix::Matrix,
    packed::Packed,
    parallel::{self, Buffer, SharedBuffer},
    query_block::{BlockBuffers, PackedHead, QueryBlock, exponentiate, n_queries, resized, scale},
    scratch::with_scratch,
    simd_level::SimdLevel,
    store::Store,
};

/// The inputs of attention.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// `[B, T, (H + 2 KV) · D]`: the queries of all heads, then their keys, then their values.
    pub qkv: &'a [f32],
    /// Gains of the query norm and the key norm, `[D]` each; empty without QK norm.
    pub gains: [&'a [f32]; 2],
    pub layout: &'a HeadLayout,
    pub sizes: Sizes,
    /// The documents of the B rows of T positions; `None` if each row is one document.
    pub documents: Option<&'a Documents>,
    /// Dropout of the attention weights, `[B · H · T, T]`.
    pub mask: Option<Mask>,
}

impl<'a> Inputs<'a> {
    /// QK norm and RoPE of queries, and of keys.
    fn qk_transforms(&self) -> [QkTransform<'a>; 2] {
        self.layout.qk_transforms(self.gains)
    }

    /// The key/value heads of all documents.
    ///
    /// # Panics
    ///
    /// If the documents have other rows than `qkv`.
    fn groups(&self) -> Vec<Group> {
        let Sizes { batch, time, n_kv_head, .. } = self.sizes;
        let mut documents: Vec<Document> = match self.documents {
            None => (0..batch).map(|batch| Document { batch, start: 0, n: time }).collect(),
            Some(documents) => {
                assert_eq!(documents.dims(), [batch, time], "documents and activations differ in rows");
                documents.iter().collect()
            }
        };
        // Long documents take most time, so they start first.
        documents.sort_by_key(|document| Reverse(document.n));
        let heads = |document| (0..n_kv_head).map(move |kv_head| Group { document, kv_head });
        documents.into_iter().flat_map(heads).collect()
    }

    /// The queries of one head, `[n, D]`, before QK norm and RoPE.
    fn queries(&self, head: QueryHead) -> Matrix<'a> {
        self.part(head.document, head.head * self.sizes.head_dim)
    }

    fn keys(&self, group: Group) -> Matrix<'a> {
        self.part(group.document, self.sizes.first_key(group))
    }

    fn values(&self, group: Group) -> Matrix<'a> {
        self.part(group.document, self.sizes.first_value(group))
    }

    fn part(&self, document: Document, first: usize) -> Matrix<'a> {
        let width = self.sizes.width();
        let start = self.sizes.row(document, 0, width, first).start;
        Matrix::strided(&self.qkv[start..], document.n, self.sizes.head_dim, width)
    }

    /// The dropout mask of one head, `[n, n]`.
    fn mask(&self, head: QueryHead) -> Option<MaskPart> {
        let first_row = head.statistics(self.sizes, 0) as u64;
        let first_col = u32::try_from(head.document.start).expect("a row is far below 2³² positions");
        self.mask.map(|mask| MaskPart { mask, first_row, first_col })
    }
}

/// The sizes of attention's inputs.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Sequences, B.
    pub batch: usize,
    /// Positions, T.
    pub time: usize,
    /// Query heads, H; a multiple of KV.
    pub n_head: usize,
    /// Key/value heads, KV.
    pub n_kv_head: usize,
    /// Head dimension, D.
    pub head_dim: usize,
}

impl Sizes {
    /// `[B, T, C]`.
    pub fn output_shape(self) -> [usize; 3] {
        [self.batch, self.time, self.channels()]
    }

    /// Channels of the output, H · D.
    fn channels(self) -> usize {
        self.n_head * self.head_dim
    }

    /// Channels of `qkv`.
    fn width(self) -> usize {
        (self.n_head + 2 * self.n_kv_head) * self.head_dim
    }

    fn first_key(self, group: Group) -> usize {
        (self.n_head + group.kv_head) * self.head_dim
    }

    fn first_value(self, group: Group) -> usize {
        (self.n_head + self.n_kv_head + group.kv_head) * self.head_dim
    }

    /// The index range of D elements of `[B, T, width]`, at position `time` of a document, from channel `first` on.
    fn row(self, document: Document, time: usize, width: usize, first: usize) -> std::ops::Range<usize> {
        let start = (document.batch * self.time + document.start + time) * width + first;
        start..start + self.head_dim
    }

    /// The index range of one head's output at position `time` of its document.
    fn output_row(self, head: QueryHead, time: usize) -> std::ops::Range<usize> {
        self.row(head.document, time, self.channels(), head.head * self.head_dim)
    }

    /// The query heads that share a key/value head.
    fn heads(self, group: Group) -> impl Iterator<Item = QueryHead> {
        let n = self.n_head / self.n_kv_head;
        let Group { document, kv_head } = group;
        (kv_head * n..(kv_head + 1) * n).map(move |head| QueryHead { document, head })
    }

    /// Whether to split the heads and query blocks of one group across cores. The results are the same either way.
    fn is_split(self, groups: &[Group]) -> bool {
        let work = |group: &Group| group.document.n * group.document.n * self.head_dim;
        groups.len() < rayon::current_num_threads()
            && groups.first().is_some_and(|longest| work(longest) >= parallel::WORTH_SHARING)
    }
}

/// One key/value head of one document.
#[derive(Clone, Copy)]
struct Group {
    document: Document,
    kv_head: usize,
}

impl Group {
    /// The first position of each block of queries.
    fn blocks(self) -> impl DoubleEndedIterator<Item = usize> + Clone {
        (0..self.document.n).step_by(n_queries(self.document.n))
    }
}

/// One query head of one document.
#[derive(Clone, Copy)]
struct QueryHead {
    document: Document,
    head: usize,
}

impl QueryHead {
    /// The index in `[B, H, T]` of position `time` of the document.
    fn statistics(self, sizes: Sizes, time: usize) -> usize {
        let Document { batch, start, .. } = self.document;
        (batch * sizes.n_head + self.head) * sizes.time + start + time
    }
}

/// Calls `task` with each group, its index and a thread's buffers, on all cores.
fn each_group(groups: &[Group], task: impl Fn(usize, Group, &mut Scratch) + Sync) {
    parallel::each(groups.len(), |idx| with_scratch(&SCRATCH, |scratch| task(idx, groups[idx], scratch)));
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// A thread's buffers, reused from head to head.
#[derive(Default)]
struct Scratch {
    block_buffers: BlockBuffers,
    /// Keys after QK norm and RoPE.
    key_rows: Vec<f32>,
    head: PackedHead,
    keys_transposed: Packed,
    values_transposed: Packed,
    keys: Packed,
    /// One block of queries, or of output gradients.
    block: Packed,
    d_scores: Vec<f32>,
    d_keys: Vec<f32>,
    d_values: Vec<f32>,
}

/// The output `[B, T, C]`, and the softmax statistics for the backward pass, `[B, H, T, 2]`: the maximum m of each row
/// of scores, and `1 / Σ exp(score - m)`.
pub fn forward(level: SimdLevel, inputs: &Inputs<'_>) -> (Vec<f32>, Vec<f32>) {
    let sizes = inputs.sizes;
    let Sizes { batch, time, n_head, .. } = sizes;
    let [_, key_transform] = inputs.qk_transforms();
    let mut out = Buffer::new(batch * time * sizes.channels());
    let mut sums = Buffer::new(2 * batch * n_head * time);
    let shared = Outputs { out: out.shared(), sums: sums.shared() };
    let groups = inputs.groups();
    if sizes.is_split(&groups) {
        let (mut key_rows, mut packed) = (Vec::new(), PackedHead::default());
        for group in groups {
            let k = key_transform.forward(level, inputs.keys(group), 0, &mut key_rows);
            packed.keys_transposed.pack_on_all_cores(level, k.transposed());
            packed.values.pack_on_all_cores(level, inputs.values(group));
            // The last queries attend to most keys, so their blocks start first.
            let heads = |start| sizes.heads(group).map(move |head| (head, start));
            let blocks: Vec<(QueryHead, usize)> = group.blocks().rev().flat_map(heads).collect();
            parallel::each(blocks.len(), |idx| {
                let (head, start) = blocks[idx];
                // SAFETY: each block of queries is computed once.
                with_scratch(&SCRATCH, |scratch| unsafe {
                    attend_block(level, inputs, head, start, &packed, &mut scratch.block_buffers, shared)
                });
            });
        }
    } else {
        each_group(&groups, |_, group, scratch| {
            let k = key_transform.forward(level, inputs.keys(group), 0, &mut scratch.key_rows);
            scratch.head.keys_transposed.pack(level, k.transposed());
            scratch.head.values.pack(level, inputs.values(group));
            let blocks = |head| group.blocks().map(move |start| (head, start));
            for (head, start) in sizes.heads(group).flat_map(blocks) {
                // SAFETY: as above.
                unsafe {
                    attend_block(
                        level,
                        inputs,
                        head,
                        start,
                        &scratch.head,
                        &mut scratch.block_buffers,
                        shared,
                    )
                };
            }
        });
    }
    // SAFETY: the heads of all documents cover both buffers.
    unsafe { (out.finish(), sums.finish()) }
}

/// The output buffers of [`forward`].
#[derive(Clone, Copy)]
struct Outputs<'a> {
    out: SharedBuffer<'a>,
    sums: SharedBuffer<'a>,
}

/// Computes the outputs of one head for the block of queries that starts at position `start` of its document.
///
/// # Safety
///
/// No other task computes the same block.
unsafe fn attend_block(
    level: SimdLevel,
    inputs: &Inputs<'_>,
    head: QueryHead,
    start: usize,
    packed: &PackedHead,
    buffers: &mut BlockBuffers,
    outputs: Outputs<'_>,
) {
    let sizes = inputs.sizes;
    let [transform, _] = inputs.qk_transforms();
    let n = head.document.n;
    let end = (start + n_queries(n)).min(n);
    let [first, last] = [start, end].map(|time| head.statistics(sizes, time));
    // SAFETY: each block has its own statistics.
    let sums = unsafe { outputs.sums.zeroed(2 * first..2 * last) };
    let block = QueryBlock {
        rows: inputs.queries(head).row_range(start..end),
        transform,
        first: start,
        mask: inputs.mask(head),
    };
    block.attend(level, packed, sums, buffers, |row| {
        // SAFETY: each head has its own channels of each position.
        unsafe { outputs.out.zeroed(sizes.output_row(head, start + row)) }
    });
}

/// The gradients of `qkv` and of both gains, given the output's gradient `d_out`. `out` and `sums` are the results of
/// [`forward`].
pub fn backward(
    level: SimdLevel,
    inputs: &Inputs<'_>,
    out: &[f32],
    sums: &[f32],
    d_out: &[f32],
) -> (Vec<f32>, [Vec<f32>; 2]) {
    let sizes = inputs.sizes;
    let Sizes { batch, time, head_dim, .. } = sizes;
    let groups = inputs.groups();
    let [query_transform, key_transform] = inputs.qk_transforms();
    let channels = sizes.channels();
    let mut d_qkv = Buffer::new(batch * time * sizes.width());
    let mut d_gains = Buffer::new(groups.len() * 2 * head_dim);
    let (shared, shared_gains) = (d_qkv.shared(), d_gains.shared());
    each_group(&groups, |idx, group, scratch| {
        let n_keys = group.document.n;
        let v = inputs.values(group);
        let k = key_transform.forward(level, inputs.keys(group), 0, &mut scratch.key_rows);
        scratch.keys_transposed.pack(level, k.transposed());
        scratch.values_transposed.pack(level, v.transposed());
        scratch.keys.pack(level, k);
        resized(&mut scratch.d_keys, n_keys * head_dim).fill(0.0);
        resized(&mut scratch.d_values, n_keys * head_dim).fill(0.0);
        // SAFETY: each group has its own part.
        let d_gains = unsafe { shared_gains.zeroed(2 * idx * head_dim..2 * (idx + 1) * head_dim) };
        let (d_query_gain, d_key_gain) = d_gains.split_at_mut(head_dim);
        for head in sizes.heads(group) {
            let q =
                query_transform.forward(level, inputs.queries(head), 0, &mut scratch.block_buffers.queries);
            let d_out_head =
                Matrix::strided(&d_out[sizes.output_row(head, 0).start..], n_keys, head_dim, channels);
            let mask = inputs.mask(head);
            for start in group.blocks() {
                let end = (start + n_queries(n_keys)).min(n_keys);
                let n = end - start;
                let probs = resized(&mut scratch.block_buffers.probs, n * end);
                let d_scores = resized(&mut scratch.d_scores, n * end);
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
                            let sums = &sums[2 * head.statistics(sizes, position)..][..2];
                            exponentiate(seen, scale(head_dim), sums[0]);
                            future.fill(0.0);
                            d_future.fill(0.0);
                            let range = sizes.output_row(head, position);
                            let mean = dot(&out[range.clone()], &d_out[range]);
                            if let Some(mask) = mask {
                                mask.apply(position, d_seen);
                            }
                            for (d_score, prob) in d_seen.iter_mut().zip(&mut *seen) {
                                *prob *= sums[1];
                                *d_score = *prob * (*d_score - mean) * scale(head_dim);
                            }
                            if let Some(mask) = mask {
                                mask.apply(position, seen);
                            }
                        }
                    },
                );
                let (probs, d_scores) = (Matrix::new(probs, n, end), Matrix::new(d_scores, n, end));
                scratch.block.pack(level, d_rows);
                let d_values = &mut scratch.d_values[..end * head_dim];
                multiply(level, probs.transposed(), &scratch.block, d_values, head_dim, Store::Add);
                scratch.block.pack(level, queries);
                let d_keys = &mut scratch.d_keys[..end * head_dim];
                multiply(level, d_scores.transposed(), &scratch.block, d_keys, head_dim, Store::Add);
                let d_queries = resized(&mut scratch.block_buffers.rows, n * head_dim);
                multiply(level, d_scores, &scratch.keys, d_queries, head_dim, Store::Overwrite);
                let raw = inputs.queries(head).row_range(start..end);
                query_transform.backward(level, raw, start, d_queries, d_query_gain);
                // SAFETY: each head has its own channels at each position, separate for queries, keys and values.
                unsafe { write_rows(shared, d_queries, sizes, head.document, start, head.head * head_dim) };
            }
        }
        key_transform.backward(level, inputs.keys(group), 0, &mut scratch.d_keys, d_key_gain);
        // SAFETY: as above.
        unsafe {
            write_rows(shared, &scratch.d_keys, sizes, group.document, 0, sizes.first_key(group));
            write_rows(shared, &scratch.d_values, sizes, group.document, 0, sizes.first_value(group));
        }
    });
    // SAFETY: the groups of all documents cover both buffers.
    let (d_qkv, d_gains) = unsafe { (d_qkv.finish(), d_gains.finish()) };
    let mut totals = [(); 2].map(|()| vec![0.0; head_dim]);
    for d_gains in d_gains.chunks_exact(2 * head_dim) {
        for (total, d_gain) in totals.iter_mut().zip(d_gains.chunks_exact(head_dim)) {
            total.iter_mut().zip(d_gain).for_each(|(total, d)| *total += d);
        }
    }
    (d_qkv, totals)
}

/// Copies rows `[n, D]` into `[B, T, width]`, from position `start` of a document and channel `first` on.
///
/// # Safety
///
/// No other reference to this part of `out` is alive.
unsafe fn write_rows(
    out: SharedBuffer<'_>,
    rows: &[f32],
    sizes: Sizes,
    document: Document,
    start: usize,
    first: usize,
) {
    for (row, values) in rows.chunks_exact(sizes.head_dim).enumerate() {
        // SAFETY: rows do not overlap, and the caller guarantees that no other reference is alive.
        let out = unsafe { out.zeroed(sizes.row(document, start + row, sizes.width(), first)) };
        out.copy_from_slice(values);
    }
}
