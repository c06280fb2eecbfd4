//! Causal attention of a step: new rows of several sequences, each after its own past.
//!
//! Keys and values of the rows are added to the slots first. Then a task is a segment's head of keys and values with the
//! heads of queries that it serves, or, where these tasks are fewer than the cores, a block of queries. A segment of one row,
//! as in decoding, takes the dot product of its query with each key; a longer one packs all keys and goes block by block, as in
//! training.

use std::{cell::Cell, ops::Range};

use super::{
    heads::{HeadLayout, Preparation},
    math::{dot, max},
    matrix::Matrix,
    packed::Packed,
    parallel::{self, Buffer, Shared, SharedBuffer},
    query_block::{BlockMemory, MAX_QUERIES, PackedHead, QueryBlock, exponentiate, n_queries, scale, sized},
    scratch::with_scratch,
    simd_level::SimdLevel,
    slot::{HeadMemory, Slot},
};

/// Consecutive rows of a step that belong to one sequence.
///
/// The segments of a step cover its rows in their order. The first row of a segment is at position `past` of its
/// sequence, the others follow. A row attends to the `past` positions before its segment, to the rows of its segment
/// before it and to itself; never to rows of another segment.
///
/// In inference a [`Slot`] holds the `past` positions. Documents that are packed into one row of training are segments too,
/// each with a past of 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Positions of its sequence before its first row.
    pub past: usize,
    /// Rows.
    pub n: usize,
}

impl Segment {
    /// The positions of its rows.
    pub fn positions(self) -> Range<usize> {
        self.past..self.past + self.n
    }
}

/// Positions whose keys or values are converted at a time.
const BLOCK: usize = 64;

/// The input of a step's attention.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    /// `[N, (H + 2 KV) · D]`: the queries of all heads, then their keys, then their values.
    pub qkv: &'a [f32],
    /// Of the norms of queries and of keys; empty where there are none.
    pub gains: [&'a [f32]; 2],
    /// How queries and keys are prepared.
    pub layout: &'a HeadLayout,
    /// D.
    pub head_dim: usize,
    /// They cover the N rows.
    pub segments: &'a [Segment],
}

/// Attention of each row to its past and itself, `[N, H · D]`. Keys and values of the rows are added to a layer of `slots`, one
/// for each segment.
///
/// The result of a segment does not depend on the other segments, to the last bit.
///
/// # Panics
///
/// If the slots are not as many as the segments, hold other numbers of positions, or have no room for the rows; if the
/// segments do not cover the rows, or the heads of queries are not a multiple of those of keys.
pub fn attend(level: SimdLevel, step: &Step<'_>, slots: &mut [&mut Slot], layer: usize) -> Vec<f32> {
    let n_rows: usize = step.segments.iter().map(|segment| segment.n).sum();
    let HeadLayout { n_head, n_kv_head, .. } = *step.layout;
    assert!(n_head.is_multiple_of(n_kv_head), "{n_head} heads do not share {n_kv_head} of keys evenly");
    assert_eq!(slots.len(), step.segments.len(), "a slot for each segment");
    assert_eq!(n_rows * step.width(), step.qkv.len(), "the segments cover the rows");
    step.extend(level, slots, layer);
    let mut out = Buffer::new(n_rows * step.channels());
    let parts = step.parts().zip(&*slots).map(|((first_row, segment), slot)| Part {
        first_row,
        past: segment.past,
        n: segment.n,
        heads: slot.layer(layer),
    });
    let (single, long): (Vec<Part<'_>>, Vec<Part<'_>>) = parts.partition(|part| part.n == 1);
    step.attend_rows(level, &single, out.shared());
    step.attend_blocks(level, &long, out.shared());
    // SAFETY: the segments cover all rows, and each has been given the channels of all heads.
    unsafe { out.finish() }
}

/// A segment, with what its slot holds.
struct Part<'a> {
    first_row: usize,
    past: usize,
    n: usize,
    /// `[KV]`, of `past + n` positions.
    heads: &'a [HeadMemory],
}

impl Part<'_> {
    fn n_keys(&self) -> usize {
        self.past + self.n
    }
}

impl<'a> Step<'a> {
    /// Of a row.
    fn width(&self) -> usize {
        (self.layout.n_head + 2 * self.layout.n_kv_head) * self.head_dim
    }

    /// Of a row of the output.
    fn channels(&self) -> usize {
        self.layout.n_head * self.head_dim
    }

    /// Heads of queries that share a head of keys and values.
    fn n_served(&self) -> usize {
        self.layout.n_head / self.layout.n_kv_head
    }

    fn preparations(&self) -> [Preparation<'a>; 2] {
        self.layout.preparations(self.gains)
    }

    /// The segments and their first rows.
    fn parts(&self) -> impl Iterator<Item = (usize, Segment)> {
        self.segments.iter().scan(0, |next, &segment| {
            let first_row = *next;
            *next += segment.n;
            Some((first_row, segment))
        })
    }

    /// Some rows of one head; heads of keys follow those of queries, and those of values these.
    fn head(&self, rows: Range<usize>, head: usize) -> Matrix<'a> {
        let start = rows.start * self.width() + head * self.head_dim;
        Matrix::strided(&self.qkv[start..], rows.len(), self.head_dim, self.width())
    }

    /// Where the output has some heads of a row.
    fn output(&self, row: usize, heads: Range<usize>) -> Range<usize> {
        let start = row * self.channels();
        start + heads.start * self.head_dim..start + heads.end * self.head_dim
    }

    /// Adds the keys and values of all rows to their slots.
    fn extend(&self, level: SimdLevel, slots: &mut [&mut Slot], layer: usize) {
        let HeadLayout { n_head, n_kv_head, .. } = *self.layout;
        let [_, of_keys] = self.preparations();
        for ((first_row, Segment { past, n }), slot) in self.parts().zip(slots) {
            let shape = slot.shape();
            let (expected, is) = ([n_kv_head, self.head_dim], [shape.n_kv_head, shape.head_dim]);
            assert_eq!(is, expected, "the slot was made for other heads");
            let heads = Shared::new(slot.layer_to_extend(layer, past, n));
            let rows = first_row..first_row + n;
            parallel::pieces(n_kv_head, 1, 2 * n * self.head_dim, |kv_heads| {
                let mut memory = Vec::new();
                for kv_head in kv_heads {
                    // SAFETY: pieces do not overlap.
                    let head = unsafe { &mut heads.part(kv_head..kv_head + 1)[0] };
                    let keys = self.head(rows.clone(), n_head + kv_head);
                    head.keys.extend(of_keys.forward(level, keys, past, &mut memory));
                    head.values.extend(self.head(rows.clone(), n_head + n_kv_head + kv_head));
                }
            });
        }
    }

    /// The output of segments of one row.
    fn attend_rows(&self, level: SimdLevel, parts: &[Part<'_>], out: SharedBuffer<'_>) {
        let (n_head, n_served) = (self.layout.n_head, self.n_served());
        let n_keys = parts.iter().map(Part::n_keys).sum::<usize>() / parts.len().max(1);
        parallel::pieces(parts.len() * n_head, 1, 2 * n_keys * self.head_dim, |tasks| {
            let (mut task, mut memory) = (tasks.start, RowMemory::default());
            while task < tasks.end {
                let (part, head) = (&parts[task / n_head], task % n_head);
                // Heads that share keys and values read them together.
                let end = (head + tasks.end - task).min((head / n_served + 1) * n_served);
                // SAFETY: pieces do not overlap.
                let out = unsafe { out.zeroed(self.output(part.first_row, head..end)) };
                self.attend_row(level, part, head..end, &mut memory, out);
                task += end - head;
            }
        });
    }

    /// The output of some heads of a segment of one row, which share keys and values, to zeros.
    fn attend_row(
        &self,
        level: SimdLevel,
        part: &Part<'_>,
        heads: Range<usize>,
        memory: &mut RowMemory,
        out: &mut [f32],
    ) {
        let (head_dim, n_keys) = (self.head_dim, part.n_keys());
        let [of_queries, _] = self.preparations();
        let RowMemory { prepared, queries, scores, sums, converted } = memory;
        let queries = sized(queries, heads.len() * head_dim);
        for (head, query) in heads.clone().zip(queries.chunks_exact_mut(head_dim)) {
            let row = self.head(part.first_row..part.first_row + 1, head);
            query.copy_from_slice(of_queries.forward(level, row, part.past, prepared).row(0));
        }
        let scores = sized(scores, heads.len() * n_keys);
        let HeadMemory { keys, values } = &part.heads[heads.start / self.n_served()];
        let blocks = || (0..n_keys).step_by(BLOCK).map(|start| start..(start + BLOCK).min(n_keys));
        for block in blocks() {
            let keys = keys.read(block.start * head_dim..block.end * head_dim, converted);
            level.vectorize(
                #[inline(always)]
                || {
                    let heads = queries.chunks_exact(head_dim).zip(scores.chunks_exact_mut(n_keys));
                    for (query, scores) in heads {
                        let scores = &mut scores[block.start..block.end];
                        for (score, key) in scores.iter_mut().zip(keys.chunks_exact(head_dim)) {
                            *score = dot(query, key);
                        }
                    }
                },
            );
        }
        let (scale, sums) = (scale(head_dim), sized(sums, heads.len()));
        level.vectorize(
            #[inline(always)]
            || {
                for (sum, scores) in sums.iter_mut().zip(scores.chunks_exact_mut(n_keys)) {
                    let largest = max(scores);
                    *sum = exponentiate(scores, scale, largest * scale);
                }
            },
        );
        for block in blocks() {
            let values = values.read(block.start * head_dim..block.end * head_dim, converted);
            level.vectorize(
                #[inline(always)]
                || {
                    let heads = scores.chunks_exact(n_keys).zip(out.chunks_exact_mut(head_dim));
                    for (probs, out) in heads {
                        let probs = &probs[block.start..block.end];
                        for (prob, value) in probs.iter().zip(values.chunks_exact(head_dim)) {
                            for (out, value) in out.iter_mut().zip(value) {
                                *out += prob * value;
                            }
                        }
                    }
                },
            );
        }
        for (out, sum) in out.chunks_exact_mut(head_dim).zip(sums) {
            out.iter_mut().for_each(|out| *out /= *sum);
        }
    }

    /// The output of longer segments.
    fn attend_blocks(&self, level: SimdLevel, parts: &[Part<'_>], out: SharedBuffer<'_>) {
        let heads = |part| (0..self.layout.n_kv_head).map(move |kv_head| (part, kv_head));
        let tasks: Vec<(&Part<'_>, usize)> = parts.iter().flat_map(heads).collect();
        let work: usize = parts.iter().map(|part| part.n * part.n_keys() * self.head_dim).sum();
        if tasks.len() >= rayon::current_num_threads() || work < parallel::WORTH_SHARING {
            parallel::each(tasks.len(), |idx| {
                let (part, kv_head) = tasks[idx];
                with_scratch(&SCRATCH, |Scratch { packed, converted, block }| {
                    self.pack(level, part, kv_head, packed, converted, Packed::renew);
                    for (head, start) in self.blocks(part, kv_head) {
                        // SAFETY: each block of queries comes once.
                        unsafe { self.mix(level, part, head, start, packed, block, out) };
                    }
                });
            });
            return;
        }
        let (mut packed, mut converted) = (PackedHead::default(), Vec::new());
        for (part, kv_head) in tasks {
            self.pack(level, part, kv_head, &mut packed, &mut converted, Packed::renew_on_all_cores);
            // The last queries see most keys: whoever has them begins first.
            let mut blocks: Vec<(usize, usize)> = self.blocks(part, kv_head).collect();
            blocks.sort_by_key(|&(_, start)| std::cmp::Reverse(start));
            parallel::each(blocks.len(), |idx| {
                let (head, start) = blocks[idx];
                // SAFETY: as above.
                with_scratch(&SCRATCH, |Scratch { block, .. }| unsafe {
                    self.mix(level, part, head, start, &packed, block, out);
                });
            });
        }
    }

    /// Packs all keys and values of a head of a segment's slot.
    fn pack(
        &self,
        level: SimdLevel,
        part: &Part<'_>,
        kv_head: usize,
        packed: &mut PackedHead,
        converted: &mut Vec<f32>,
        renew: impl Fn(&mut Packed, SimdLevel, Matrix<'_>),
    ) {
        let HeadMemory { keys, values } = &part.heads[kv_head];
        let (n_keys, size) = (part.n_keys(), part.n_keys() * self.head_dim);
        let keys = Matrix::new(keys.read(0..size, converted), n_keys, self.head_dim);
        renew(&mut packed.keys_transposed, level, keys.transposed());
        let values = Matrix::new(values.read(0..size, converted), n_keys, self.head_dim);
        renew(&mut packed.values, level, values);
    }

    /// The blocks of queries that a head of keys and values serves: their heads, and their first rows in the segment.
    fn blocks(&self, part: &Part<'_>, kv_head: usize) -> impl Iterator<Item = (usize, usize)> {
        let heads = kv_head * self.n_served()..(kv_head + 1) * self.n_served();
        let starts = (0..part.n).step_by(n_queries(part.n_keys()));
        heads.flat_map(move |head| starts.clone().map(move |start| (head, start)))
    }

    /// The output of a block of a head's queries, from row `start` of the segment on.
    ///
    /// # Safety
    ///
    /// Nobody else has the output of the same block.
    #[expect(clippy::too_many_arguments, reason = "a task, and the memory that it has")]
    unsafe fn mix(
        &self,
        level: SimdLevel,
        part: &Part<'_>,
        head: usize,
        start: usize,
        packed: &PackedHead,
        memory: &mut BlockMemory,
        out: SharedBuffer<'_>,
    ) {
        let [preparation, _] = self.preparations();
        let end = (start + n_queries(part.n_keys())).min(part.n);
        let rows = self.head(part.first_row + start..part.first_row + end, head);
        let block = QueryBlock { rows, preparation, first: part.past + start, mask: None };
        let mut sums = [0.0; 2 * MAX_QUERIES];
        block.mix(level, packed, &mut sums[..2 * (end - start)], memory, |row| {
            // SAFETY: each head has its own channels of each row.
            unsafe { out.zeroed(self.output(part.first_row + start + row, head..head + 1)) }
        });
    }
}

/// Memory for segments of one row.
#[derive(Default)]
struct RowMemory {
    prepared: Vec<f32>,
    queries: Vec<f32>,
    scores: Vec<f32>,
    sums: Vec<f32>,
    converted: Vec<f32>,
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// Memory of a core, kept from head to head.
#[derive(Default)]
struct Scratch {
    packed: PackedHead,
    converted: Vec<f32>,
    block: BlockMemory,
}
