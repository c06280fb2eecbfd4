//! The KV cache of one sequence.

use std::ops::Range;

use half::{f16, slice::HalfFloatSliceExt};

use super::matrix::Matrix;

/// Positions allocated at first, within the capacity.
const FIRST_POSITIONS: usize = 64;

/// The sizes of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotShape {
    pub n_layer: usize,
    /// Key/value heads, KV.
    pub n_kv_head: usize,
    /// Head dimension, D.
    pub head_dim: usize,
    /// Maximum positions.
    pub capacity: usize,
}

impl SlotShape {
    /// Maximum positions that a slot with `len` positions has allocated, however it grew.
    pub fn room(&self, len: usize) -> usize {
        len.saturating_mul(2).max(FIRST_POSITIONS).min(self.capacity)
    }

    /// Allocated positions after a slot with `room` allocated positions grows to `end` positions.
    pub fn grown_room(&self, room: usize, end: usize) -> usize {
        end.max(room.saturating_mul(2)).max(FIRST_POSITIONS).min(self.capacity)
    }

    /// The size of the keys and values of `positions` positions, in bytes.
    pub fn size_bytes(&self, stored: SlotType, positions: usize) -> u64 {
        let factors = [2, self.n_layer, self.n_kv_head, self.head_dim, positions, stored.size_bytes()];
        factors.into_iter().fold(1, |product: u64, factor| product.saturating_mul(factor as u64))
    }
}

/// The type in which a slot stores keys and values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SlotType {
    #[default]
    F32,
    /// Half the memory: rounded to 11 bits of mantissa, and infinite above 65504.
    F16,
}

impl SlotType {
    fn size_bytes(self) -> usize {
        match self {
            Self::F32 => size_of::<f32>(),
            Self::F16 => size_of::<f16>(),
        }
    }
}

/// The KV cache of one sequence: the keys, after QK norm and RoPE, and the values of all positions so far, in every
/// layer.
///
/// The allocation doubles when it is full. To continue one prompt as several sequences, clone its slot; a clone
/// allocates only the filled positions.
#[derive(Debug, Clone)]
pub struct Slot {
    shape: SlotShape,
    stored: SlotType,
    /// `[n_layer · KV]`.
    heads: Vec<HeadCache>,
}

impl Slot {
    /// An empty slot.
    pub fn new(shape: SlotShape, stored: SlotType) -> Self {
        let buffer = || match stored {
            SlotType::F32 => SlotBuffer::F32(Vec::new()),
            SlotType::F16 => SlotBuffer::F16(Vec::new()),
        };
        let head = |_| HeadCache { keys: buffer(), values: buffer() };
        Self { shape, stored, heads: (0..shape.n_layer * shape.n_kv_head).map(head).collect() }
    }

    /// The sizes of this slot.
    pub fn shape(&self) -> &SlotShape {
        &self.shape
    }

    /// The number of positions that every layer holds.
    pub fn len(&self) -> usize {
        self.heads.last().map_or(0, |head| head.keys.len() / self.shape.head_dim)
    }

    /// Whether it holds no position.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The allocated size, in bytes.
    pub fn size_bytes(&self) -> u64 {
        let capacities =
            self.heads.iter().flat_map(|head| [&head.keys, &head.values]).map(SlotBuffer::capacity);
        (capacities.sum::<usize>() * self.stored.size_bytes()) as u64
    }

    /// Drops all positions from `len` on, and keeps the allocation.
    pub fn truncate(&mut self, len: usize) {
        for head in &mut self.heads {
            head.keys.truncate(len * self.shape.head_dim);
            head.values.truncate(len * self.shape.head_dim);
        }
    }

    /// A copy of the first `len` positions, or of all if there are fewer.
    #[must_use]
    pub fn prefix(&self, len: usize) -> Self {
        let n = len * self.shape.head_dim;
        let head = |HeadCache { keys, values }: &HeadCache| HeadCache {
            keys: keys.prefix(n),
            values: values.prefix(n),
        };
        Self { heads: self.heads.iter().map(head).collect(), ..*self }
    }

    pub(super) fn layer(&self, layer: usize) -> &[HeadCache] {
        &self.heads[self.heads_of(layer)]
    }

    /// The heads of a layer that holds `past` positions, with space allocated for `n` more.
    pub(super) fn layer_to_extend(&mut self, layer: usize, past: usize, n: usize) -> &mut [HeadCache] {
        let (shape, end) = (self.shape, past + n);
        assert!(end <= shape.capacity, "{end} positions do not fit a slot of {}", shape.capacity);
        let range = self.heads_of(layer);
        let heads = &mut self.heads[range];
        for head in &mut *heads {
            for buffer in [&mut head.keys, &mut head.values] {
                let (len, room) = (buffer.len() / shape.head_dim, buffer.capacity() / shape.head_dim);
                assert_eq!(len, past, "the slot holds {len} positions, and the segment follows {past}");
                if end > room {
                    buffer.reserve(shape.grown_room(room, end) * shape.head_dim);
                }
            }
        }
        heads
    }

    fn heads_of(&self, layer: usize) -> Range<usize> {
        layer * self.shape.n_kv_head..(layer + 1) * self.shape.n_kv_head
    }
}

/// The keys and values of one head in one layer, `[S, D]` each.
#[derive(Debug, Clone)]
pub(super) struct HeadCache {
    pub(super) keys: SlotBuffer,
    pub(super) values: SlotBuffer,
}

/// Values in the type that a slot stores.
#[derive(Debug, Clone)]
pub(super) enum SlotBuffer {
    F32(Vec<f32>),
    F16(Vec<f16>),
}

impl SlotBuffer {
    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Self::F32(values) => values.capacity(),
            Self::F16(values) => values.capacity(),
        }
    }

    /// Reserves space for `n` values in total.
    fn reserve(&mut self, n: usize) {
        match self {
            Self::F32(values) => values.reserve_exact(n - values.len()),
            Self::F16(values) => values.reserve_exact(n - values.len()),
        }
    }

    /// A copy of the first `n` values, or of all if there are fewer.
    fn prefix(&self, n: usize) -> Self {
        match self {
            Self::F32(values) => Self::F32(values[..n.min(values.len())].to_vec()),
            Self::F16(values) => Self::F16(values[..n.min(values.len())].to_vec()),
        }
    }

    fn truncate(&mut self, n: usize) {
        match self {
            Self::F32(values) => values.truncate(n),
            Self::F16(values) => values.truncate(n),
        }
    }

    /// Appends rows.
    pub(super) fn extend(&mut self, rows: Matrix<'_>) {
        for row in (0..rows.rows()).map(|idx| rows.row(idx)) {
            match self {
                Self::F32(values) => values.extend_from_slice(row),
                Self::F16(values) => {
                    let start = values.len();
                    values.resize(start + row.len(), f16::ZERO);
                    values[start..].convert_from_f32_slice(row);
                }
            }
        }
    }

    /// Some of the values: f32 in place, f16 converted into `buffer`.
    pub(super) fn read<'a>(&'a self, range: Range<usize>, buffer: &'a mut Vec<f32>) -> &'a [f32] {
        match self {
            Self::F32(values) => &values[range],
            Self::F16(values) => {
                buffer.resize(range.len(), 0.0);
                values[range].convert_to_f32_slice(buffer);
                buffer
            }
        }
    }
}
