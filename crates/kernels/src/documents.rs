//! Documents packed into the rows of a training batch, on any device.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::prelude::*;
use cpu::Segment;

use crate::{Rope, indices::index_tensor};

/// [`cpu::Documents`], and their starts and angles as tensors, cached per device. Layers and clones share the tensors.
///
/// ```
/// let documents = kernels::Documents::new(&[3, 2, 5], 5);
/// assert_eq!(documents.dims(), [2, 5]);
/// ```
#[derive(Debug, Clone)]
pub struct Documents {
    on_host: cpu::Documents,
    on_devices: Arc<Mutex<OnDevices>>,
}

/// Constants on devices without autodiff.
#[derive(Debug, Default)]
struct OnDevices {
    /// One per device, `[B, T]`.
    starts: Vec<Tensor<2>>,
    /// One per device and RoPE, `[B · T, D]`.
    angles: Vec<(Rope, Tensor<2>)>,
}

impl Documents {
    /// Documents with these lengths, in the order of the rows. The padding at the end of a row is a document too.
    ///
    /// # Panics
    ///
    /// If a document is empty, or the documents do not fill whole rows of `time` positions.
    pub fn new(lengths: &[usize], time: usize) -> Self {
        Self { on_host: cpu::Documents::new(lengths, time), on_devices: Arc::default() }
    }

    /// The rows B and their positions T.
    pub fn dims(&self) -> [usize; 2] {
        self.on_host.dims()
    }

    /// The documents in the order of the rows, each with a past of 0.
    pub fn segments(&self) -> &[Segment] {
        self.on_host.segments()
    }

    /// The length of the longest document.
    pub(crate) fn longest(&self) -> usize {
        self.on_host.longest()
    }

    /// The documents, as the CPU operations read them.
    pub(crate) fn on_host(&self) -> &cpu::Documents {
        &self.on_host
    }

    /// The first position of each token's document in its row, `[B, T]`. They are floats, which are exact below 2²⁴. They
    /// are cached per device, and so are [`Documents::angles`].
    pub(crate) fn starts(&self, device: &Device) -> Tensor<2> {
        let mut on_devices = self.on_devices();
        if let Some(starts) = on_devices.starts.iter().find(|starts| starts.device() == *device) {
            return starts.clone();
        }
        #[expect(clippy::cast_precision_loss, reason = "a row is far shorter than 2²⁴")]
        let starts: Vec<f32> = self.on_host.starts().map(|start| start as f32).collect();
        let starts = Tensor::from_data(TensorData::new(starts, self.dims()), device);
        on_devices.starts.push(starts.clone());
        starts
    }

    /// The angles of each token's position in its document, `[B · T, D]`: D/2 cosines and D/2 sines.
    pub(crate) fn angles(&self, rope: &Rope, device: &Device) -> Tensor<2> {
        let mut on_devices = self.on_devices();
        let is_wanted = |(other, angles): &&(Rope, Tensor<2>)| rope.is(other) && angles.device() == *device;
        if let Some((_, angles)) = on_devices.angles.iter().find(is_wanted) {
            return angles.clone();
        }
        let positions = index_tensor(self.on_host.positions(), device);
        let angles = rope.on(device, self.longest()).select(0, positions);
        on_devices.angles.push((rope.clone(), angles.clone()));
        angles
    }

    fn on_devices(&self) -> MutexGuard<'_, OnDevices> {
        self.on_devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attention, causal_attention, has_fused_operations, testing::test_device};

    #[test]
    fn layers_share_the_tensors_on_a_device() {
        let device = test_device();
        let (documents, rope) = (Documents::new(&[2, 1, 3], 3), Rope::new(4, 3, 1e4));
        let attention = Attention { rope: Some(rope), ..Attention::plain(2) };
        let qkv = Tensor::ones([2, 3, 24], &device.clone().autodiff());
        for documents in [&documents, &documents.clone()] {
            causal_attention(qkv.clone(), &attention.clone(), Some(documents), 0.0);
            causal_attention(qkv.clone().inner(), &attention, Some(documents), 0.0);
        }
        let on_devices = documents.on_devices();
        let lens = [on_devices.starts.len(), on_devices.angles.len()];
        let expected = if has_fused_operations(&device) { [0, 0] } else { [1, 1] };
        assert_eq!(lens, expected, "starts and angles");
    }

    #[test]
    fn tensors_have_a_row_per_token() {
        let device = test_device();
        let (documents, rope) = (Documents::new(&[2, 1, 3], 3), Rope::new(4, 3, 1e4));
        assert_eq!(
            documents.starts(&device).into_data(),
            TensorData::from([[0.0f32, 0.0, 2.0], [0.0, 0.0, 0.0]])
        );
        let angles = documents.angles(&rope, &device);
        let table = rope.on(&device, 3);
        let rows = [0, 1, 0, 0, 1, 2].map(|row: usize| table.clone().slice(s![row..row + 1, ..]));
        assert_eq!(angles.into_data(), Tensor::cat(rows.into(), 0).into_data());
    }
}
