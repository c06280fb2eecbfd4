//! Causal attention of an inference step: new rows of several sequences, each with its own past.
//!
//! First, the keys and values of the new rows are appended to the slots. Then a task is a key/value head of one segment
//! with the query heads that it serves, or a block of queries if there are fewer of these than cores. A segment of a few
//! rows, as in decoding, takes the dot product of each query with each key. A longer one, as in prefill, packs all keys
//! and is computed block by block, as in training.

use std::{cell::Cell, ops::Range};

use super::{
    heads::{HeadLayout, QkTransform},
    math::{dot, max},
    matrix::Matrix,
    packed::Packed,
    parallel::{self, Buffer, Shared, SharedBuffer},
    query_block::{
        BlockBuffers, MAX_QUERIES, PackedHead, QueryBlock, exponentiate, n_queries, resized, scale,
    },
    scratch::with_scratch,
    simd_level::SimdLevel,
    slot::{HeadCache, Slot},
};

/// Consecutive rows of a step that belong to one sequence.
///
/// The segments of a step cover its rows in order. The first row of a segment is at position `past` of its sequence,
/// and the others follow. A row attends to the `past` positions before its segment, to earlier rows of its segment and
/// to itself, never to rows of another segment.
///
/// In inference a [`Slot`] holds the `past` positions. [`Documents`](super::Documents) packed into rows of training are
/// segments too, each with a past of 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Positions of the sequence before the first row.
    pub past: usize,
    pub n: usize,
}

impl Segment {
    /// The positions of the rows.
    pub fn positions(self) -> Range<usize> {
        self.past..self.past + self.n
    }
}

/// Maximum rows of a segment in which the bits of a row do not depend on the other rows. For more, packing pays off.
pub const INVARIANT_SEGMENT: usize = 16;

/// Positions whose keys or values are converted to f32 at a time.
const BLOCK: usize = 64;

/// Channels that are summed in registers.
const WIDTH: usize = 32;

/// The inputs of attention in an inference step.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    /// `[N, (H + 2 KV) · D]`: the queries of all heads, then their keys, then their values.
    pub qkv: &'a [f32],
    /// Gains of the query norm and the key norm, `[D]` each; empty without QK norm.
    pub gains: [&'a [f32]; 2],
    pub layout: &'a HeadLayout,
    pub head_dim: usize,
    pub segments: &'a [Segment],
}

/// Attention of each row to its past and itself, `[N, H · D]`. Appends the keys and values of the rows to a layer of
/// `slots`, one for each segment.
///
/// The result of a segment is bitwise independent of the other segments. Up to [`INVARIANT_SEGMENT`] rows, it does not
/// depend on the split of a sequence into segments either.
///
/// # Panics
///
/// If the numbers of slots and segments differ, the segments do not cover the rows, or H is not a multiple of KV. Also if
/// a slot lacks the `past` positions of its segment, or room for its rows.
pub fn attend(level: SimdLevel, step: &Step<'_>, slots: &mut [&mut Slot], layer: usize) -> Vec<f32> {
    let n_rows: usize = step.segments.iter().map(|segment| segment.n).sum();
    let HeadLayout { n_head, n_kv_head, .. } = *step.layout;
    assert!(
        n_head.is_multiple_of(n_kv_head),
        "{n_head} query heads are not a multiple of {n_kv_head} key/value heads"
    );
    assert_eq!(slots.len(), step.segments.len(), "each segment needs a slot");
    assert_eq!(n_rows * step.width(), step.qkv.len(), "the segments do not cover the rows");
    step.extend(level, slots, layer);
    let mut out = Buffer::new(n_rows * step.channels());
    let parts = step.parts().zip(&*slots).map(|((first_row, segment), slot)| Part {
        first_row,
        past: segment.past,
        n: segment.n,
        heads: slot.layer(layer),
    });
    let (short, long): (Vec<Part<'_>>, Vec<Part<'_>>) = parts.partition(|part| part.n <= INVARIANT_SEGMENT);
    step.attend_rows(level, &short, out.shared());
    step.attend_blocks(level, &long, out.shared());
    // SAFETY: the segments cover all rows, and all heads of each row are computed.
    unsafe { out.finish() }
}

/// A segment and the heads of its slot.
struct Part<'a> {
    first_row: usize,
    past: usize,
    n: usize,
    /// `[KV]`, of `past + n` positions.
    heads: &'a [HeadCache],
}

impl Part<'_> {
    fn n_keys(&self) -> usize {
        self.past + self.n
    }
}

impl<'a> Step<'a> {
    /// Channels of a row of `qkv`.
    fn width(&self) -> usize {
        (self.layout.n_head + 2 * self.layout.n_kv_head) * self.head_dim
    }

    /// Channels of a row of the output.
    fn channels(&self) -> usize {
        self.layout.n_head * self.head_dim
    }

    /// Query heads per key/value head.
    fn group_size(&self) -> usize {
        self.layout.n_head / self.layout.n_kv_head
    }

    fn qk_transforms(&self) -> [QkTransform<'a>; 2] {
        self.layout.qk_transforms(self.gains)
    }

    /// The segments with the indices of their first rows.
    fn parts(&self) -> impl Iterator<Item = (usize, Segment)> {
        self.segments.iter().scan(0, |next, &segment| {
            let first_row = *next;
            *next += segment.n;
            Some((first_row, segment))
        })
    }

    /// Some rows of one head of `qkv`, with heads in the order queries, keys, values.
    fn head(&self, rows: Range<usize>, head: usize) -> Matrix<'a> {
        let start = rows.start * self.width() + head * self.head_dim;
        Matrix::strided(&self.qkv[start..], rows.len(), self.head_dim, self.width())
    }

    /// The index range of some heads of an output row.
    fn output(&self, row: usize, heads: Range<usize>) -> Range<usize> {
        let start = row * self.channels();
        start + heads.start * self.head_dim..start + heads.end * self.head_dim
    }

    /// Appends the keys and values of all rows to their slots.
    fn extend(&self, level: SimdLevel, slots: &mut [&mut Slot], layer: usize) {
        let HeadLayout { n_head, n_kv_head, .. } = *self.layout;
        let [_, key_transform] = self.qk_transforms();
        for ((first_row, Segment { past, n }), slot) in self.parts().zip(slots) {
            let shape = slot.shape();
            let (expected, is) = ([n_kv_head, self.head_dim], [shape.n_kv_head, shape.head_dim]);
            assert_eq!(is, expected, "the slot has other head sizes");
            let heads = Shared::new(slot.layer_to_extend(layer, past, n));
            let rows = first_row..first_row + n;
            parallel::pieces(n_kv_head, 1, 2 * n * self.head_dim, |kv_heads| {
                let mut buffer = Vec::new();
                for kv_head in kv_heads {
                    // SAFETY: pieces do not overlap.
                    let head = unsafe { &mut heads.part(kv_head..kv_head + 1)[0] };
                    let keys = self.head(rows.clone(), n_head + kv_head);
                    head.keys.extend(key_transform.forward(level, keys, past, &mut buffer));
                    head.values.extend(self.head(rows.clone(), n_head + n_kv_head + kv_head));
                }
            });
        }
    }

    /// Attention of segments of a few rows.
    fn attend_rows(&self, level: SimdLevel, parts: &[Part<'_>], out: SharedBuffer<'_>) {
        let (n_head, group_size) = (self.layout.n_head, self.group_size());
        let n_scores = parts.iter().map(|part| part.n * part.n_keys()).sum::<usize>() / parts.len().max(1);
        parallel::pieces(parts.len() * n_head, 1, 2 * n_scores * self.head_dim, |tasks| {
            let (mut task, mut buffers) = (tasks.start, RowBuffers::default());
            while task < tasks.end {
                let (part, head) = (&parts[task / n_head], task % n_head);
                // Query heads that share keys and values read them together.
                let end = (head + tasks.end - task).min((head / group_size + 1) * group_size);
                // SAFETY: pieces do not overlap, and rows have their own outputs.
                let out = |row| unsafe { out.zeroed(self.output(part.first_row + row, head..end)) };
                self.attend_queries(level, part, head..end, &mut buffers, out);
                task += end - head;
            }
        });
    }

    /// Attention of some query heads of a segment that share keys and values. Adds to the outputs of its rows, which
    /// are zero.
    fn attend_queries<'o>(
        &self,
        level: SimdLevel,
        part: &Part<'_>,
        heads: Range<usize>,
        buffers: &mut RowBuffers,
        out: impl Fn(usize) -> &'o mut [f32],
    ) {
        let (head_dim, n_keys, n_heads) = (self.head_dim, part.n_keys(), heads.len());
        let [query_transform, _] = self.qk_transforms();
        let RowBuffers { transformed, queries, scores, sums, converted } = buffers;
        // Queries of all heads of the first row, then of the next row, and so on.
        let queries = resized(queries, part.n * n_heads * head_dim);
        for (idx, query) in queries.chunks_exact_mut(head_dim).enumerate() {
            let (row, head) = (idx / n_heads, heads.start + idx % n_heads);
            let rows = part.first_row + row..part.first_row + row + 1;
            let query_row =
                query_transform.forward(level, self.head(rows, head), part.past + row, transformed);
            query.copy_from_slice(query_row.row(0));
        }
        let n_seen = |idx: usize| part.past + idx / n_heads + 1;
        let scores = resized(scores, part.n * n_heads * n_keys);
        let HeadCache { keys, values } = &part.heads[heads.start / self.group_size()];
        let blocks = || (0..n_keys).step_by(BLOCK).map(|start| start..(start + BLOCK).min(n_keys));
        for block in blocks() {
            let keys = keys.read(block.start * head_dim..block.end * head_dim, converted);
            level.vectorize(
                #[inline(always)]
                || {
                    let queries = queries.chunks_exact(head_dim).zip(scores.chunks_exact_mut(n_keys));
                    for (idx, (query, scores)) in queries.enumerate() {
                        let seen = block.start..block.end.min(n_seen(idx)).max(block.start);
                        for (score, key) in scores[seen].iter_mut().zip(keys.chunks_exact(head_dim)) {
                            *score = dot(query, key);
                        }
                    }
                },
            );
        }
        let (scale, sums) = (scale(head_dim), resized(sums, part.n * n_heads));
        level.vectorize(
            #[inline(always)]
            || {
                for (idx, (sum, scores)) in sums.iter_mut().zip(scores.chunks_exact_mut(n_keys)).enumerate() {
                    let seen = &mut scores[..n_seen(idx)];
                    let largest = max(seen);
                    *sum = exponentiate(seen, scale, largest * scale);
                }
            },
        );
        let mut out: Vec<&mut [f32]> =
            (0..part.n).flat_map(|row| out(row).chunks_exact_mut(head_dim)).collect();
        for block in blocks() {
            let values = values.read(block.start * head_dim..block.end * head_dim, converted);
            level.vectorize(
                #[inline(always)]
                || {
                    for (idx, (probs, out)) in scores.chunks_exact(n_keys).zip(&mut out).enumerate() {
                        let seen = block.start..block.end.min(n_seen(idx)).max(block.start);
                        add_weighted(out, &probs[seen], values);
                    }
                },
            );
        }
        for (out, sum) in out.into_iter().zip(sums) {
            out.iter_mut().for_each(|out| *out /= *sum);
        }
    }

    /// Attention of longer segments.
    fn attend_blocks(&self, level: SimdLevel, parts: &[Part<'_>], out: SharedBuffer<'_>) {
        let heads = |part| (0..self.layout.n_kv_head).map(move |kv_head| (part, kv_head));
        let tasks: Vec<(&Part<'_>, usize)> = parts.iter().flat_map(heads).collect();
        let work: usize = parts.iter().map(|part| part.n * part.n_keys() * self.head_dim).sum();
        if tasks.len() >= rayon::current_num_threads() || work < parallel::WORTH_SHARING {
            parallel::each(tasks.len(), |idx| {
                let (part, kv_head) = tasks[idx];
                with_scratch(&SCRATCH, |Scratch { packed, converted, block }| {
                    self.pack(level, part, kv_head, packed, converted, Packed::pack);
                    for (head, start) in self.blocks(part, kv_head) {
                        // SAFETY: each block of queries is computed once.
                        unsafe { self.attend_block(level, part, head, start, packed, block, out) };
                    }
                });
            });
            return;
        }
        let (mut packed, mut converted) = (PackedHead::default(), Vec::new());
        for (part, kv_head) in tasks {
            self.pack(level, part, kv_head, &mut packed, &mut converted, Packed::pack_on_all_cores);
            // The last queries attend to most keys, so their blocks start first.
            let mut blocks: Vec<(usize, usize)> = self.blocks(part, kv_head).collect();
            blocks.sort_by_key(|&(_, start)| std::cmp::Reverse(start));
            parallel::each(blocks.len(), |idx| {
                let (head, start) = blocks[idx];
                // SAFETY: as above.
                with_scratch(&SCRATCH, |Scratch { block, .. }| unsafe {
                    self.attend_block(level, part, head, start, &packed, block, out);
                });
            });
        }
    }

    /// Packs all keys and values of one head of a segment's slot.
    fn pack(
        &self,
        level: SimdLevel,
        part: &Part<'_>,
        kv_head: usize,
        packed: &mut PackedHead,
        converted: &mut Vec<f32>,
        pack: impl Fn(&mut Packed, SimdLevel, Matrix<'_>),
    ) {
        let HeadCache { keys, values } = &part.heads[kv_head];
        let (n_keys, size) = (part.n_keys(), part.n_keys() * self.head_dim);
        let keys = Matrix::new(keys.read(0..size, converted), n_keys, self.head_dim);
        pack(&mut packed.keys_transposed, level, keys.transposed());
        let values = Matrix::new(values.read(0..size, converted), n_keys, self.head_dim);
        pack(&mut packed.values, level, values);
    }

    /// The blocks of queries of a key/value head: query head, and first row in the segment.
    fn blocks(&self, part: &Part<'_>, kv_head: usize) -> impl Iterator<Item = (usize, usize)> {
        let heads = kv_head * self.group_size()..(kv_head + 1) * self.group_size();
        let starts = (0..part.n).step_by(n_queries(part.n_keys()));
        heads.flat_map(move |head| starts.clone().map(move |start| (head, start)))
    }

    /// Attention of one head for the block of queries that starts at row `start` of the segment.
    ///
    /// # Safety
    ///
    /// No other task computes the same block.
    #[expect(clippy::too_many_arguments, reason = "a task and its buffers")]
    unsafe fn attend_block(
        &self,
        level: SimdLevel,
        part: &Part<'_>,
        head: usize,
        start: usize,
        packed: &PackedHead,
        buffers: &mut BlockBuffers,
        out: SharedBuffer<'_>,
    ) {
        let [transform, _] = self.qk_transforms();
        let end = (start + n_queries(part.n_keys())).min(part.n);
        let rows = self.head(part.first_row + start..part.first_row + end, head);
        let block = QueryBlock { rows, transform, first: part.past + start, mask: None };
        let mut sums = [0.0; 2 * MAX_QUERIES];
        block.attend(level, packed, &mut sums[..2 * (end - start)], buffers, |row| {
            // SAFETY: each head has its own channels of each row.
            unsafe { out.zeroed(self.output(part.first_row + start + row, head..head + 1)) }
        });
    }
}

/// Adds each row of `values` times its weight to `out`, in their order.
#[inline(always)]
fn add_weighted(out: &mut [f32], weights: &[f32], values: &[f32]) {
    let width = out.len();
    let (chunks, rest) = out.as_chunks_mut::<WIDTH>();
    let n_chunked = chunks.len() * WIDTH;
    for (idx, out) in chunks.iter_mut().enumerate() {
        let mut sums = *out; // In registers.
        for (weight, row) in weights.iter().zip(values.chunks_exact(width)) {
            for (sum, value) in sums.iter_mut().zip(&row[idx * WIDTH..][..WIDTH]) {
                *sum += weight * value;
            }
        }
        *out = sums;
    }
    for (weight, row) in weights.iter().zip(values.chunks_exact(width)) {
        for (out, value) in rest.iter_mut().zip(&row[n_chunked..]) {
            *out += weight * value;
        }
    }
}

/// Buffers for segments of a few rows.
#[derive(Default)]
struct RowBuffers {
    transformed: Vec<f32>,
    queries: Vec<f32>,
    scores: Vec<f32>,
    sums: Vec<f32>,
    converted: Vec<f32>,
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// A thread's buffers, reused from head to head.
#[derive(Default)]
struct Scratch {
    packed: PackedHead,
    converted: Vec<f32>,
    block: BlockBuffers,
}
