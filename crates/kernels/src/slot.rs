//! The KV cache of one sequence, on any device.

use burn::{
    prelude::*,
    tensor::{DType, FloatDType},
};
use cpu::{SlotShape, SlotType};

use crate::has_fused_operations;

/// The KV cache of one sequence: the keys and values of all positions so far, in every layer.
///
/// To continue one prompt as several sequences, clone its slot. A clone copies the filled positions, or shares them
/// until either slot is extended.
#[derive(Debug, Clone)]
pub struct Slot {
    shape: SlotShape,
    pub(crate) storage: SlotStorage,
}

/// The storage of keys and values, which determines the implementation of attention.
#[derive(Debug, Clone)]
pub(crate) enum SlotStorage {
    /// For the fused operations on the CPU.
    Cpu(cpu::Slot),
    /// One for each layer.
    Tensors(Vec<LayerCache>),
}

/// Whether a device can store keys and values in a type.
pub fn supports_slot_type(stored: SlotType, device: &Device) -> bool {
    let dtype = match stored {
        SlotType::F32 => DType::F32,
        SlotType::F16 => DType::F16,
    };
    has_fused_operations(device) || device.supports_dtype(dtype)
}

impl Slot {
    /// An empty slot on a device.
    ///
    /// # Panics
    ///
    /// If the device does not support the type; see [`supports_slot_type`].
    pub fn new(shape: SlotShape, stored: SlotType, device: &Device) -> Self {
        if has_fused_operations(device) && !device.is_autodiff() {
            return Self { shape, storage: SlotStorage::Cpu(cpu::Slot::new(shape, stored)) };
        }
        assert!(supports_slot_type(stored, device), "the device does not support slots of {stored:?}");
        let layer = LayerCache { buffers: None, len: 0, stored };
        Self { shape, storage: SlotStorage::Tensors(vec![layer; shape.n_layer]) }
    }

    /// The sizes of this slot.
    pub fn shape(&self) -> &SlotShape {
        &self.shape
    }

    /// The number of positions that every layer holds.
    pub fn len(&self) -> usize {
        match &self.storage {
            SlotStorage::Cpu(slot) => slot.len(),
            SlotStorage::Tensors(layers) => layers.last().map_or(0, |layer| layer.len),
        }
    }

    /// Whether it holds no position.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The allocated size, in bytes.
    pub fn size_bytes(&self) -> u64 {
        match &self.storage {
            SlotStorage::Cpu(slot) => slot.size_bytes(),
            SlotStorage::Tensors(layers) => {
                let room = layers.first().map_or(0, LayerCache::room);
                let stored = layers.first().map_or(SlotType::F32, |layer| layer.stored);
                self.shape.size_bytes(stored, room)
            }
        }
    }

    /// The slot for the fused operations; panics for other storage.
    pub(crate) fn on_cpu(&mut self) -> &mut cpu::Slot {
        match &mut self.storage {
            SlotStorage::Cpu(slot) => slot,
            SlotStorage::Tensors(_) => panic!("the slots of a step are on different devices"),
        }
    }

    /// Appends T positions after `past` others to a layer of tensors. Returns all S positions of the layer.
    ///
    /// - `new`: keys and values, `[1, KV, T, D]` each
    /// - output: `[1, KV, S, D]` each
    pub(crate) fn extend(&mut self, layer: usize, past: usize, new: [Tensor<4>; 2]) -> [Tensor<4>; 2] {
        match &mut self.storage {
            SlotStorage::Cpu(_) => panic!("the slots of a step are on different devices"),
            SlotStorage::Tensors(layers) => layers[layer].extend(&self.shape, past, new),
        }
    }

    /// A slot with the first `len` positions of this one, or with all if there are fewer.
    #[must_use]
    pub fn prefix(&self, len: usize) -> Self {
        match &self.storage {
            SlotStorage::Cpu(slot) => Self { shape: self.shape, storage: SlotStorage::Cpu(slot.prefix(len)) },
            SlotStorage::Tensors(_) => {
                let mut prefix = self.clone(); // Shares the tensors.
                prefix.truncate(len);
                prefix
            }
        }
    }

    /// Drops all positions from `len` on, and keeps the allocation.
    pub fn truncate(&mut self, len: usize) {
        match &mut self.storage {
            SlotStorage::Cpu(slot) => slot.truncate(len),
            SlotStorage::Tensors(layers) => {
                for layer in layers {
                    layer.len = layer.len.min(len);
                }
            }
        }
    }
}

/// The keys of a layer, after QK norm and RoPE, and its values, as tensors.
#[derive(Debug, Clone)]
pub(crate) struct LayerCache {
    /// `[1, KV, room, D]` each, of which the first `len` positions are filled. `None` until the first position.
    buffers: Option<[Tensor<4>; 2]>,
    len: usize,
    stored: SlotType,
}

impl LayerCache {
    /// Allocated positions.
    fn room(&self) -> usize {
        self.buffers.as_ref().map_or(0, |[keys, _]| keys.dims()[2])
    }

    /// As [`Slot::extend`].
    fn extend(&mut self, shape: &SlotShape, past: usize, new: [Tensor<4>; 2]) -> [Tensor<4>; 2] {
        let [_, n_kv_head, time, head_dim] = new[0].dims();
        let (is, expected) = ([shape.n_kv_head, shape.head_dim], [n_kv_head, head_dim]);
        assert_eq!(is, expected, "the slot has other head sizes");
        let (len, end, capacity) = (self.len, past + time, shape.capacity);
        assert_eq!(len, past, "the slot holds {len} positions, and the segment follows {past}");
        assert!(end <= capacity, "{end} positions do not fit a slot of {capacity}");
        self.make_room(shape, end, &new[0].device());
        self.len = end;
        let stored = self.stored;
        // Taken, so that the buffers are not shared and can be written in place.
        let [keys, values] = self.buffers.take().expect("there is room");
        let write = |(buffer, new): (Tensor<4>, Tensor<4>)| -> Tensor<4> {
            buffer.slice_assign(s![.., .., past..end, ..], to_type(new, stored))
        };
        let [new_keys, new_values] = new;
        let buffers = [(keys, new_keys), (values, new_values)].map(write);
        let all = buffers
            .each_ref()
            .map(|buffer| buffer.clone().slice(s![.., .., ..end, ..]).cast(FloatDType::F32));
        self.buffers = Some(buffers);
        all
    }

    /// Allocates space for `end` positions.
    fn make_room(&mut self, shape: &SlotShape, end: usize, device: &Device) {
        if end <= self.room() {
            return;
        }
        let (len, room) = (self.len, shape.grown_room(self.room(), end));
        let empty =
            || to_type(Tensor::zeros([1, shape.n_kv_head, room, shape.head_dim], device), self.stored);
        self.buffers = Some(match self.buffers.take() {
            Some(buffers) if len > 0 => {
                buffers.map(|buffer| empty().slice_assign(s![.., .., ..len, ..], buffer.narrow(2, 0, len)))
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

    /// Feeds all rows except the first `past`, which are in the slot.
    fn feed(qkv: &Tensor<3>, past: usize, slot: &mut Slot) -> TensorData {
        let [_, n, _] = qkv.dims();
        let segment = Segment { past, n: n - past };
        let rows = qkv.clone().slice(s![.., past.., ..]);
        ragged_attention(rows, &Attention::plain(HEADS), &[segment], &mut [slot], 0).into_data()
    }

    #[test]
    fn slot_size_follows_its_length() {
        let qkv = random(700);
        let (mut forked, mut whole) = (slot(1 << 40), slot(1000));
        let exact = || Tolerance::<f32>::absolute(if test_device() == Device::flex() { 0.0 } else { 1e-5 });
        // The allocation grows several times, with clones in between.
        for time in 0..700 {
            if time % 100 == 99 {
                forked = forked.clone();
            }
            let seen = qkv.clone().slice(s![.., ..=time, ..]);
            let got = feed(&seen, time, &mut forked);
            got.assert_approx_eq::<f32>(&feed(&seen, time, &mut whole), exact());
        }
        for slot in [forked, whole] {
            let bytes = |positions| slot.shape().size_bytes(SlotType::F32, positions);
            assert_eq!(slot.len(), 700);
            let (least, most) = (bytes(700), bytes(slot.shape().room(700)));
            assert!((least..=most).contains(&slot.size_bytes()), "{} bytes", slot.size_bytes());
        }
    }

    #[test]
    fn a_clone_and_its_original_are_independent() {
        let (qkv, other) = (random(30), random(40) * 2.0);
        let mut slot = slot(100);
        feed(&qkv.clone().slice(s![.., ..20, ..]), 0, &mut slot);
        let expected = feed(&qkv, 20, &mut slot.clone());
        let mut fork = slot.clone();
        feed(&other, 20, &mut fork);
        assert_eq!((slot.len(), fork.len()), (20, 40));
        assert_eq!(feed(&qkv, 20, &mut slot), expected);
        // A truncated slot forgets the rest.
        fork.truncate(20);
        assert_eq!(feed(&qkv, 20, &mut fork), expected);
        fork.truncate(0);
        assert!(fork.is_empty());
        let mut fresh = self::slot(100);
        assert_eq!(feed(&qkv, 0, &mut fork), feed(&qkv, 0, &mut fresh));
    }

    #[test]
    #[should_panic(expected = "6 positions do not fit a slot of 5")]
    fn a_full_slot_refuses_more() {
        let mut slot = slot(5);
        feed(&random(5), 0, &mut slot);
        feed(&random(6), 5, &mut slot);
    }

    #[test]
    #[should_panic(expected = "the slot holds 5 positions, and the segment follows 4")]
    fn a_segment_must_follow_the_positions_of_its_slot() {
        let mut slot = slot(9);
        feed(&random(5), 0, &mut slot);
        feed(&random(6), 4, &mut slot);
    }

    #[test]
    #[should_panic(expected = "the slots of a step are on different devices")]
    fn slots_of_a_step_must_be_on_one_device() {
        let [mut slot, mut other] = [slot(9), slot(9)];
        let shape = *slot.shape();
        slot.storage = SlotStorage::Cpu(cpu::Slot::new(shape, SlotType::F32));
        other.storage =
            SlotStorage::Tensors(vec![LayerCache { buffers: None, len: 0, stored: SlotType::F32 }]);
        let segments = [Segment { past: 0, n: 1 }; 2];
        ragged_attention(random(2), &Attention::plain(HEADS), &segments, &mut [&mut slot, &mut other], 0);
    }
}
