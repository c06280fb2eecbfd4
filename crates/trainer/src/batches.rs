//! Windows of tokens as batches on a device.

use std::ops::Range;

use burn::prelude::*;
use dataset::{Batch, BatchIndex, Prefetch, Windows};

/// Inputs and the token after each, both `[B, T]`.
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

/// Prepares batches ahead of training: a few on a background thread, and one on the device.
pub(crate) struct Batches {
    batches: Prefetch,
    /// The next batch, already on the device or being copied to it.
    next: Option<TokenBatch>,
    /// Number of batches left, including `next`.
    n_left: u64,
    device: Device,
}

impl Batches {
    /// `per_step` batches for each step of the range, in order.
    pub(crate) fn for_steps(windows: Windows, steps: Range<u64>, per_step: u64, device: &Device) -> Self {
        let n_left = (steps.end - steps.start) * per_step;
        Self {
            batches: Prefetch::new(windows, steps.start, per_step),
            next: None,
            n_left,
            device: device.clone(),
        }
    }

    /// The evaluation windows, in batches of at most `batch_size`. The windows do not depend on the batch size.
    pub(crate) fn for_evaluation(windows: Windows, batch_size: usize, device: &Device) -> Self {
        let n_left = windows.n_rows().div_ceil(batch_size) as u64;
        let batches = Prefetch::of(windows.in_batches(BatchIndex::default(), batch_size));
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
        // A GPU executes commands in order. This copy is queued before the work on the returned batch, so it is done
        // when the next step begins. Copies below 100 MB already go through pinned memory; `Device::staging` would only
        // add waiting.
        if self.n_left > 0 {
            self.next = self.upload();
        }
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dataset::{RngStream, Tokens};

    use super::*;

    fn ids(tensor: Tensor<2, Int>) -> Vec<i64> {
        tensor.into_data().iter::<i64>().collect()
    }

    #[test]
    fn batches_on_the_device_equal_the_windows_of_their_steps() {
        let tokens = Arc::new(Tokens::from_vec((0..500).collect()));
        let windows = Windows::new(tokens, 6, 3, 7, RngStream::Train).unwrap();
        let batches = Batches::for_steps(windows.clone(), 5..7, 2, &kernels::testing::test_device());
        let uploaded: Vec<_> = batches.map(|batch| (ids(batch.inputs), ids(batch.targets))).collect();
        let wide = |ids: Vec<i32>| ids.into_iter().map(i64::from).collect::<Vec<_>>();
        let expected = [(5, 0), (5, 1), (6, 0), (6, 1)].map(|(step, micro_batch)| {
            let batch = windows.batch(BatchIndex { step, micro_batch });
            (wide(batch.inputs), wide(batch.targets))
        });
        assert_eq!(uploaded, expected);
    }

    #[test]
    fn evaluation_windows_do_not_depend_on_the_batch_size() {
        let tokens = Arc::new(Tokens::from_vec((0..500).collect()));
        let windows = Windows::new(tokens, 6, 5, 7, RngStream::Evaluate).unwrap();
        let [in_twos, whole] = [2, 5].map(|size| -> Vec<Vec<i64>> {
            let batches = Batches::for_evaluation(windows.clone(), size, &kernels::testing::test_device());
            batches.map(|batch| ids(batch.inputs)).collect()
        });
        assert_eq!((in_twos.len(), in_twos[2].len(), whole.len()), (3, 6, 1));
        assert_eq!(in_twos.concat(), whole.concat());
    }
}
