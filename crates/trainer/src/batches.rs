//! Windows of tokens as batches on a device.

use std::{ops::Range, sync::Arc};

use burn::{
    data::{
        dataloader::{DataLoader, DataLoaderIterator, Progress},
        dataset::DatasetError,
    },
    prelude::*,
};
use dataset::{Batch, Prefetch, Windows};

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

/// The batches of a range of steps, drawn on a thread of their own, a few ahead.
#[derive(Clone)]
pub(crate) struct WindowLoader {
    windows: Windows,
    steps: Range<u64>,
    batches_per_step: u64,
    device: Device,
}

impl WindowLoader {
    /// `batches_per_step` batches for each step of the range, in order.
    pub(crate) fn new(windows: Windows, steps: Range<u64>, batches_per_step: u64, device: &Device) -> Self {
        Self { windows, steps, batches_per_step, device: device.clone() }
    }

    fn n_batches(&self) -> u64 {
        (self.steps.end - self.steps.start) * self.batches_per_step
    }
}

impl DataLoader<TokenBatch> for WindowLoader {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<TokenBatch> + 'a> {
        let batches = Prefetch::new(self.windows.clone(), self.steps.start, self.batches_per_step, 0);
        Box::new(Batches { batches, done: 0, total: self.num_items(), device: &self.device })
    }

    fn num_items(&self) -> usize {
        usize::try_from(self.n_batches()).unwrap_or(usize::MAX)
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<TokenBatch>> {
        Arc::new(Self { device: device.clone(), ..self.clone() })
    }

    /// The steps from `start` to `end`, counted from the first of this loader.
    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<TokenBatch>> {
        let first = self.steps.start;
        Arc::new(Self { steps: first + start as u64..first + end as u64, ..self.clone() })
    }
}

struct Batches<'a> {
    batches: Prefetch,
    done: usize,
    total: usize,
    device: &'a Device,
}

impl Iterator for Batches<'_> {
    type Item = Result<TokenBatch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done == self.total {
            return None;
        }
        let batch = self.batches.next()?;
        self.done += 1;
        Some(Ok(TokenBatch::new(batch, self.device)))
    }
}

impl DataLoaderIterator<TokenBatch> for Batches<'_> {
    fn progress(&self) -> Progress {
        Progress::new(self.done, self.total, Some("batches".to_owned()))
    }
}
