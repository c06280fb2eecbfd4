//! The keys and values of one sequence.

use std::ops::Range;

use half::{f16, slice::HalfFloatSliceExt};

use super::matrix::Matrix;

/// Positions that a slot has memory for at first, if it may hold as many.
const FIRST_POSITIONS: usize = 64;

/// The sizes of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotShape {
    /// Attention layers.
    pub n_layer: usize,
    /// Heads of keys and values, KV.
    pub n_kv_head: usize,
    /// Channels of a head, D.
    pub head_dim: usize,
    /// Positions that it can hold.
    pub capacity: usize,
}

impl SlotShape {
    /// The most positions that a slot has memory for when it holds `len`, however they came.
    pub fn room(&self, len: usize) -> usize {
        len.saturating_mul(2).max(FIRST_POSITIONS).min(self.capacity)
    }

    /// Positions that a slot has memory for after it grew to `end`, from memory for `room`.
    pub fn grown_room(&self, room: usize, end: usize) -> usize {
        end.max(room.saturating_mul(2)).max(FIRST_POSITIONS).min(self.capacity)
    }

    /// Memory of keys and values of so many positions, in bytes.
    pub fn size_bytes(&self, stored: SlotType, positions: usize) -> u64 {
        let factors = [2, self.n_layer, self.n_kv_head, self.head_dim, positions, stored.size_bytes()];
        factors.into_iter().fold(1, |product: u64, factor| product.saturating_mul(factor as u64))
    }
}

/// How a slot stores keys and values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SlotType {
    /// As they were computed.
    #[default]
    F32,
    /// In half the memory: rounded to 11 bits, and infinite above 65504.
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

/// The keys, prepared, and values of one sequence: those of its positions so far, in every layer.
///
/// Its memory doubles when it is full and is freed when the slot is dropped. A clone, which is how one prompt serves
/// several sequences, has memory for the filled positions alone.
#[derive(Debug, Clone)]
pub struct Slot {
    shape: SlotShape,
    stored: SlotType,
    /// Those of each layer side by side, `[n_layer · KV]`.
    heads: Vec<HeadMemory>,
}

impl Slot {
    /// A slot that holds no position.
    pub fn new(shape: SlotShape, stored: SlotType) -> Self {
        let numbers = || match stored {
            SlotType::F32 => Numbers::F32(Vec::new()),
            SlotType::F16 => Numbers::F16(Vec::new()),
        };
        let head = |_| HeadMemory { keys: numbers(), values: numbers() };
        Self { shape, stored, heads: (0..shape.n_layer * shape.n_kv_head).map(head).collect() }
    }

    /// The sizes it was made with.
    pub fn shape(&self) -> &SlotShape {
        &self.shape
    }

    /// Positions that all layers hold.
    pub fn len(&self) -> usize {
        self.heads.last().map_or(0, |head| head.keys.len() / self.shape.head_dim)
    }

    /// Whether it holds no position.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its memory, filled or not, in bytes.
    pub fn size_bytes(&self) -> u64 {
        let rooms = self.heads.iter().flat_map(|head| [&head.keys, &head.values]).map(Numbers::capacity);
        (rooms.sum::<usize>() * self.stored.size_bytes()) as u64
    }

    /// Forgets all positions from `len` on, if there are any, and keeps the memory.
    pub fn truncate(&mut self, len: usize) {
        for head in &mut self.heads {
            head.keys.truncate(len * self.shape.head_dim);
            head.values.truncate(len * self.shape.head_dim);
        }
    }

    /// The heads of a layer.
    pub(super) fn layer(&self, layer: usize) -> &[HeadMemory] {
        &self.heads[self.heads_of(layer)]
    }

    /// The heads of a layer that holds `past` positions, with room for `n` more.
    pub(super) fn layer_to_extend(&mut self, layer: usize, past: usize, n: usize) -> &mut [HeadMemory] {
        let (shape, end) = (self.shape, past + n);
        assert!(end <= shape.capacity, "{end} positions do not fit a slot of {}", shape.capacity);
        let range = self.heads_of(layer);
        let heads = &mut self.heads[range];
        for head in &mut *heads {
            for numbers in [&mut head.keys, &mut head.values] {
                let (len, room) = (numbers.len() / shape.head_dim, numbers.capacity() / shape.head_dim);
                assert_eq!(len, past, "the slot holds {len} positions, and the segment follows {past}");
                if end > room {
                    numbers.reserve(shape.grown_room(room, end) * shape.head_dim);
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
pub(super) struct HeadMemory {
    pub(super) keys: Numbers,
    pub(super) values: Numbers,
}

/// Numbers in the type that a slot stores.
#[derive(Debug, Clone)]
pub(super) enum Numbers {
    F32(Vec<f32>),
    F16(Vec<f16>),
}

impl Numbers {
    fn len(&self) -> usize {
        match self {
            Self::F32(numbers) => numbers.len(),
            Self::F16(numbers) => numbers.len(),
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Self::F32(numbers) => numbers.capacity(),
            Self::F16(numbers) => numbers.capacity(),
        }
    }

    /// Makes room for `n` numbers in all.
    fn reserve(&mut self, n: usize) {
        match self {
            Self::F32(numbers) => numbers.reserve_exact(n - numbers.len()),
            Self::F16(numbers) => numbers.reserve_exact(n - numbers.len()),
        }
    }

    fn truncate(&mut self, n: usize) {
        match self {
            Self::F32(numbers) => numbers.truncate(n),
            Self::F16(numbers) => numbers.truncate(n),
        }
    }

    /// Adds rows.
    pub(super) fn extend(&mut self, rows: Matrix<'_>) {
        for row in (0..rows.rows()).map(|idx| rows.row(idx)) {
            match self {
                Self::F32(numbers) => numbers.extend_from_slice(row),
                Self::F16(numbers) => {
                    let start = numbers.len();
                    numbers.resize(start + row.len(), f16::ZERO);
                    numbers[start..].convert_from_f32_slice(row);
                }
            }
        }
    }

    /// Some of the numbers, where they are or converted in `memory`.
    pub(super) fn read<'a>(&'a self, range: Range<usize>, memory: &'a mut Vec<f32>) -> &'a [f32] {
        match self {
            Self::F32(numbers) => &numbers[range],
            Self::F16(numbers) => {
                memory.resize(range.len(), 0.0);
                numbers[range].convert_to_f32_slice(memory);
                memory
            }
        }
    }
}
