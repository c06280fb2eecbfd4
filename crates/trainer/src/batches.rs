//! Windows of tokens as batches on a device.

use std::ops::Range;

use burn::prelude::*;
use dataset::{Batch, Draw, Prefetch, Windows};

/// Inputs and the token after each, `[B, T]` both.
#[derive(Debug, Clone)]
pub(crate) struct TokenBatch {
    pub(crate) inputs: Tensor<2, Int>,
    pub(crate) targets: Tensor<2, Int>,
}

impl TokenBatch {
    fn new(batch: Batch, device: &Device) -> Self {
        let shape = [batch.batch_size, batch.block_size];
        let tensor = |ids| Tensor::from_data(TensorData::new(ids, shape), device);
        Self { inputs: tensor(batch.inputs), targets: tensor(batch.targets) }
    }
}

/// Batches that are made on a thread of their own, a few ahead, and put on the device one ahead.
pub(crate) struct Batches {
    batches: Prefetch,
    /// On the device already, or on its way there.
    next: Option<TokenBatch>,
    /// How many are still to be given out.
    n_left: u64,
    device: Device,
}

impl Batches {
    /// `per_step` batches for each step of a range, in order.
    pub(crate) fn of_steps(windows: Windows, steps: Range<u64>, per_step: u64, device: &Device) -> Self {
        let n_left = (steps.end - steps.start) * per_step;
        Self {
            batches: Prefetch::new(windows, steps.start, per_step),
            next: None,
            n_left,
            device: device.clone(),
        }
    }

    /// The windows of the first draw, in batches of at most so many: the same ones whatever the size.
    pub(crate) fn of_draw(windows: Windows, batch_size: usize, device: &Device) -> Self {
        let n_left = windows.n_rows().div_ceil(batch_size) as u64;
        let batches = Prefetch::of(windows.in_batches(Draw::default(), batch_size));
        Self { batches, next: None, n_left, device: device.clone() }
    }

    fn upload(&mut self) -> Option<TokenBatch> {
        self.batches.next().map(|batch| TokenBatch::new(batch, &self.device))
    }
}

impl Iterator for Batches {
    type Item = TokenBatch;

    fn next(&mut self) -> Option<TokenBatch> {
        self.n_left = self.n_left.checked_sub(1)?;
        let batch = self.next.take().or_else(|| self.upload())?;
        // A GPU does what it is given in turn: this copy comes before the work on the batch that is given out, and so is
        // over when the next step begins. There it goes by pinned memory without being asked to, as does every copy below
        // 100 MB; `Device::staging` would only wait for that memory.
        if self.n_left > 0 {
            self.next = self.upload();
        }
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dataset::{Stream, Tokens};

    use super::*;

    fn ids(tensor: Tensor<2, Int>) -> Vec<i64> {
        tensor.into_data().iter::<i64>().collect()
    }

    #[test]
    fn batches_on_the_device_are_those_drawn_directly_and_no_more() {
        let tokens = Arc::new(Tokens::from_vec((0..500).collect()));
        let windows = Windows::new(tokens, 6, 3, 7, Stream::Train).unwrap();
        let batches = Batches::of_steps(windows.clone(), 5..7, 2, &kernels::testing::test_device());
        let uploaded: Vec<_> = batches.map(|batch| (ids(batch.inputs), ids(batch.targets))).collect();
        let wide = |ids: Vec<i32>| ids.into_iter().map(i64::from).collect::<Vec<_>>();
        let drawn = [(5, 0), (5, 1), (6, 0), (6, 1)].map(|(step, micro_batch)| {
            let batch = windows.batch(Draw { step, micro_batch });
            (wide(batch.inputs), wide(batch.targets))
        });
        assert_eq!(uploaded, drawn);
    }

    #[test]
    fn one_draw_is_the_same_windows_in_batches_of_any_size() {
        let tokens = Arc::new(Tokens::from_vec((0..500).collect()));
        let windows = Windows::new(tokens, 6, 5, 7, Stream::Evaluate).unwrap();
        let [in_twos, whole] = [2, 5].map(|size| -> Vec<Vec<i64>> {
            let batches = Batches::of_draw(windows.clone(), size, &kernels::testing::test_device());
            batches.map(|batch| ids(batch.inputs)).collect()
        });
        assert_eq!((in_twos.len(), in_twos[2].len(), whole.len()), (3, 6, 1));
        assert_eq!(in_twos.concat(), whole.concat());
    }
}
