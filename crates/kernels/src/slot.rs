//! The keys and values of one sequence, where its device has them.

use burn::{
    prelude::*,
    tensor::{DType, FloatDType},
};
use cpu::{SlotShape, SlotType};

use crate::has_fused_operations;

/// The keys and values of the positions of one sequence so far, in every layer.
///
/// Dropping it frees its memory. A clone is how one prompt serves several sequences: it has a copy of what is filled, or
/// shares the memory until either is extended.
#[derive(Debug, Clone)]
pub struct Slot {
    shape: SlotShape,
    pub(crate) memory: SlotMemory,
}

/// Where keys and values are, which decides the implementation of attention.
#[derive(Debug, Clone)]
pub(crate) enum SlotMemory {
    /// Of the fused operations on the CPU.
    Cpu(cpu::Slot),
    /// One for each layer.
    Tensors(Vec<LayerMemory>),
}

impl Slot {
    /// A slot that holds no position, on a device.
    ///
    /// # Panics
    ///
    /// If the device has no values of the type.
    pub fn new(shape: SlotShape, stored: SlotType, device: &Device) -> Self {
        if has_fused_operations(device) && !device.is_autodiff() {
            return Self { shape, memory: SlotMemory::Cpu(cpu::Slot::new(shape, stored)) };
        }
        let dtype = match stored {
            SlotType::F32 => DType::F32,
            SlotType::F16 => DType::F16,
        };
        assert!(device.supports_dtype(dtype), "the device has no values of {dtype:?}");
        let layer = LayerMemory { memory: None, len: 0, stored };
        Self { shape, memory: SlotMemory::Tensors(vec![layer; shape.n_layer]) }
    }

    /// The sizes it was made with.
    pub fn shape(&self) -> &SlotShape {
        &self.shape
    }

    /// Positions that all layers hold.
    pub fn len(&self) -> usize {
        match &self.memory {
            SlotMemory::Cpu(slot) => slot.len(),
            SlotMemory::Tensors(layers) => layers.last().map_or(0, |layer| layer.len),
        }
    }

    /// Whether it holds no position.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its memory, filled or not, in bytes.
    pub fn size_bytes(&self) -> u64 {
        match &self.memory {
            SlotMemory::Cpu(slot) => slot.size_bytes(),
            SlotMemory::Tensors(layers) => {
                let room = layers.first().map_or(0, LayerMemory::room);
                let stored = layers.first().map_or(SlotType::F32, |layer| layer.stored);
                self.shape.size_bytes(stored, room)
            }
        }
    }

    /// The slot of the fused operations that it is.
    pub(crate) fn on_cpu(&mut self) -> &mut cpu::Slot {
        match &mut self.memory {
            SlotMemory::Cpu(slot) => slot,
            SlotMemory::Tensors(_) => panic!("the slots of a step are of one device"),
        }
    }

    /// Adds T positions, after `past` others, to a layer of tensors, and returns all S it then holds.
    ///
    /// - `new`: keys and values, `[1, KV, T, D]` each
    /// - output: `[1, KV, S, D]` each
    pub(crate) fn extend(&mut self, layer: usize, past: usize, new: [Tensor<4>; 2]) -> [Tensor<4>; 2] {
        match &mut self.memory {
            SlotMemory::Cpu(_) => panic!("the slots of a step are of one device"),
            SlotMemory::Tensors(layers) => layers[layer].extend(&self.shape, past, new),
        }
    }

    /// Forgets all positions from `len` on, if there are any, and keeps the memory.
    pub fn truncate(&mut self, len: usize) {
        match &mut self.memory {
            SlotMemory::Cpu(slot) => slot.truncate(len),
            SlotMemory::Tensors(layers) => {
                for layer in layers {
                    layer.len = layer.len.min(len);
                }
            }
        }
    }
}

/// The keys, prepared, and values of a layer as tensors.
#[derive(Debug, Clone)]
pub(crate) struct LayerMemory {
    /// `[1, KV, room, D]` each, of which the first `len` positions are filled; none before the first.
    memory: Option<[Tensor<4>; 2]>,
    len: usize,
    stored: SlotType,
}

impl LayerMemory {
    fn room(&self) -> usize {
        self.memory.as_ref().map_or(0, |[keys, _]| keys.dims()[2])
    }

    /// As [`Slot::extend`].
    fn extend(&mut self, shape: &SlotShape, past: usize, new: [Tensor<4>; 2]) -> [Tensor<4>; 2] {
        let [_, n_kv_head, time, head_dim] = new[0].dims();
        let (is, expected) = ([shape.n_kv_head, shape.head_dim], [n_kv_head, head_dim]);
        assert_eq!(is, expected, "the slot was made for other heads");
        let (len, end, capacity) = (self.len, past + time, shape.capacity);
        assert_eq!(len, past, "the slot holds {len} positions, and the segment follows {past}");
        assert!(end <= capacity, "{end} positions do not fit a slot of {capacity}");
        self.make_room(shape, end, &new[0].device());
        self.len = end;
        let stored = self.stored;
        // Taken out, so that nothing else holds the memory while it is written.
        let memory = self.memory.take().expect("there is room");
        let write = |(memory, new): (Tensor<4>, Tensor<4>)| -> Tensor<4> {
            memory.slice_assign(s![.., .., past..end, ..], to_type(new, stored))
        };
        let [keys, values] = memory;
        let [new_keys, new_values] = new;
        let memory = [(keys, new_keys), (values, new_values)].map(write);
        let all =
            memory.each_ref().map(|memory| memory.clone().slice(s![.., .., ..end, ..]).cast(FloatDType::F32));
        self.memory = Some(memory);
        all
    }

    /// Makes room for `end` positions.
    fn make_room(&mut self, shape: &SlotShape, end: usize, device: &Device) {
        if end <= self.room() {
            return;
        }
        let (len, room) = (self.len, shape.grown_room(self.room(), end));
        let empty =
            || to_type(Tensor::zeros([1, shape.n_kv_head, room, shape.head_dim], device), self.stored);
        self.memory = Some(match self.memory.take() {
            Some(memory) if len > 0 => {
                memory.map(|memory| empty().slice_assign(s![.., .., ..len, ..], memory.narrow(2, 0, len)))
            }
            _ => [(); 2].map(|()| empty()),
        });
    }
}

fn to_type(x: Tensor<4>, stored: SlotType) -> Tensor<4> {
    x.cast(match stored {
        SlotType::F32 => FloatDType::F32,
        SlotType::F16 => FloatDType::F16,
    })
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, Tolerance};

    use super::*;
    use crate::{Attention, Segment, ragged_attention, testing::test_device};

    const HEADS: usize = 4;
    const HEAD_DIM: usize = 3;

    fn slot(capacity: usize) -> Slot {
        let shape = SlotShape { n_layer: 1, n_kv_head: HEADS, head_dim: HEAD_DIM, capacity };
        Slot::new(shape, SlotType::F32, &test_device())
    }

    fn random(n: usize) -> Tensor<3> {
        let device = test_device();
        device.seed(0);
        Tensor::random([1, n, 3 * HEADS * HEAD_DIM], Distribution::Normal(0.0, 1.0), &device)
    }

    /// Reads all rows but the first `past`, which are in the slot.
    fn read(qkv: &Tensor<3>, past: usize, slot: &mut Slot) -> TensorData {
        let [_, n, _] = qkv.dims();
        let segment = Segment { past, n: n - past };
        let rows = qkv.clone().slice(s![.., past.., ..]);
        ragged_attention(rows, &Attention::plain(HEADS), &[segment], &mut [slot], 0).into_data()
    }

    #[test]
    fn a_slot_takes_memory_for_what_it_holds() {
        let qkv = random(700);
        let (mut forked, mut whole) = (slot(1 << 40), slot(1000));
        let exact = || Tolerance::<f32>::absolute(if test_device() == Device::flex() { 0.0 } else { 1e-5 });
        // Beyond the first memory and beyond twice that, with forks in between.
        for time in 0..700 {
            if time % 100 == 99 {
                forked = forked.clone();
            }
            let seen = qkv.clone().slice(s![.., ..=time, ..]);
            let got = read(&seen, time, &mut forked);
            got.assert_approx_eq::<f32>(&read(&seen, time, &mut whole), exact());
        }
        for slot in [forked, whole] {
            let bytes = |positions| slot.shape().size_bytes(SlotType::F32, positions);
            assert_eq!(slot.len(), 700);
            let (least, most) = (bytes(700), bytes(slot.shape().room(700)));
            assert!((least..=most).contains(&slot.size_bytes()), "{} bytes", slot.size_bytes());
        }
    }

    #[test]
    fn a_fork_and_what_it_is_of_do_not_touch_each_other() {
        let (qkv, other) = (random(30), random(40) * 2.0);
        let mut slot = slot(100);
        read(&qkv.clone().slice(s![.., ..20, ..]), 0, &mut slot);
        let expected = read(&qkv, 20, &mut slot.clone());
        let mut fork = slot.clone();
        read(&other, 20, &mut fork);
        assert_eq!((slot.len(), fork.len()), (20, 40));
        assert_eq!(read(&qkv, 20, &mut slot), expected);
        // A shorter one is as if it had read no more.
        fork.truncate(20);
        assert_eq!(read(&qkv, 20, &mut fork), expected);
        fork.truncate(0);
        assert!(fork.is_empty());
        let mut fresh = self::slot(100);
        assert_eq!(read(&qkv, 0, &mut fork), read(&qkv, 0, &mut fresh));
    }

    #[test]
    #[should_panic(expected = "6 positions do not fit a slot of 5")]
    fn a_full_slot_refuses_more() {
        let mut slot = slot(5);
        read(&random(5), 0, &mut slot);
        read(&random(6), 5, &mut slot);
    }

    #[test]
    #[should_panic(expected = "the slot holds 5 positions, and the segment follows 4")]
    fn a_segment_follows_what_its_slot_holds() {
        let mut slot = slot(9);
        read(&random(5), 0, &mut slot);
        read(&random(6), 4, &mut slot);
    }

    #[test]
    #[should_panic(expected = "the slots of a step are of one device")]
    fn slots_of_a_step_are_of_one_device() {
        let [mut slot, mut other] = [slot(9), slot(9)];
        let shape = *slot.shape();
        slot.memory = SlotMemory::Cpu(cpu::Slot::new(shape, SlotType::F32));
        other.memory = SlotMemory::Tensors(vec![LayerMemory { memory: None, len: 0, stored: SlotType::F32 }]);
        let segments = [Segment { past: 0, n: 1 }; 2];
        ragged_attention(random(2), &Attention::plain(HEADS), &segments, &mut [&mut slot, &mut other], 0);
    }
}
