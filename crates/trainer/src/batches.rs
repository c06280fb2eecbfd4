//! Windows of tokens as batches on a device.

use std::{ops::Range, sync::Arc};

use burn::{
    data::{
        dataloader::{DataLoader, DataLoaderIterator, Progress},
        dataset::DatasetError,
    },
    prelude::*,
};
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
#[derive(Clone)]
pub(crate) struct WindowLoader {
    windows: Windows,
    draws: Draws,
    device: Device,
}

/// Which windows a loader goes through.
#[derive(Debug, Clone)]
enum Draws {
    /// So many batches for each step of a range, in order.
    Steps { steps: Range<u64>, batches_per_step: u64 },
    /// The windows of one draw, in batches of this size.
    Once { batch_size: usize },
}

impl WindowLoader {
    /// `batches_per_step` batches for each step of the range, in order.
    pub(crate) fn new(windows: Windows, steps: Range<u64>, batches_per_step: u64, device: &Device) -> Self {
        Self { windows, draws: Draws::Steps { steps, batches_per_step }, device: device.clone() }
    }

    /// The windows of the first draw, in batches of this size: the same ones whatever the size.
    pub(crate) fn once(windows: Windows, batch_size: usize, device: &Device) -> Self {
        Self { windows, draws: Draws::Once { batch_size }, device: device.clone() }
    }

    fn n_batches(&self) -> u64 {
        match &self.draws {
            Draws::Steps { steps, batches_per_step } => (steps.end - steps.start) * batches_per_step,
            Draws::Once { batch_size } => self.windows.n_rows().div_ceil(*batch_size) as u64,
        }
    }
}

impl DataLoader<TokenBatch> for WindowLoader {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<TokenBatch> + 'a> {
        let windows = self.windows.clone();
        let batches = match self.draws {
            Draws::Steps { ref steps, batches_per_step } => {
                Prefetch::new(windows, steps.start, batches_per_step, 0)
            }
            Draws::Once { batch_size } => Prefetch::of(windows.in_batches(Draw::default(), batch_size)),
        };
        Box::new(Batches { batches, next: None, done: 0, total: self.num_items(), device: &self.device })
    }

    fn num_items(&self) -> usize {
        usize::try_from(self.n_batches()).unwrap_or(usize::MAX)
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<TokenBatch>> {
        Arc::new(Self { device: device.clone(), ..self.clone() })
    }

    /// The steps, or the batches of one draw, from `start` to `end`, counted from the first of this loader.
    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<TokenBatch>> {
        Arc::new(match &self.draws {
            Draws::Steps { steps, batches_per_step } => Self {
                draws: Draws::Steps {
                    steps: steps.start + start as u64..steps.start + end as u64,
                    batches_per_step: *batches_per_step,
                },
                ..self.clone()
            },
            Draws::Once { batch_size } => Self {
                windows: self.windows.clone().rows(start * batch_size..end * batch_size),
                ..self.clone()
            },
        })
    }
}

struct Batches<'a> {
    batches: Prefetch,
    /// On the device already, or on its way there.
    next: Option<TokenBatch>,
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
        let batch = self.next.take().or_else(|| self.upload())?;
        self.done += 1;
        // A GPU does what it is given in turn: this copy comes before the work on the batch that is given out, and so is
        // over when the next step begins. There it goes by pinned memory without being asked to, as does every copy below
        // 100 MB; `Device::staging` would only wait for that memory.
        if self.done < self.total {
            self.next = self.upload();
        }
        Some(Ok(batch))
    }
}

impl Batches<'_> {
    fn upload(&mut self) -> Option<TokenBatch> {
        self.batches.next().map(|batch| TokenBatch::new(batch, self.device))
    }
}

impl DataLoaderIterator<TokenBatch> for Batches<'_> {
    fn progress(&self) -> Progress {
        Progress::new(self.done, self.total, Some("batches".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use dataset::{Stream, Tokens};

    use super::*;

    #[test]
    fn batches_on_the_device_are_those_drawn_directly_and_no_more() {
        let tokens = Arc::new(Tokens::from_vec((0..500).collect()));
        let windows = Windows::new(tokens, 6, 3, 7, Stream::Train).unwrap();
        let device = kernels::test_device();
        let ids = |tensor: Tensor<2, Int>| tensor.into_data().iter::<i64>().collect::<Vec<_>>();
        let uploaded: Vec<_> = WindowLoader::new(windows.clone(), 5..7, 2, &device)
            .iter()
            .map(|batch| batch.map(|batch| (ids(batch.inputs), ids(batch.targets))).unwrap())
            .collect();
        let wide = |ids: Vec<i32>| ids.into_iter().map(i64::from).collect::<Vec<_>>();
        let drawn = [(5, 0), (5, 1), (6, 0), (6, 1)].map(|(step, micro_batch)| {
            let batch = windows.batch(Draw { step, micro_batch, rank: 0 });
            (wide(batch.inputs), wide(batch.targets))
        });
        assert_eq!(uploaded, drawn);
    }

    #[test]
    fn one_draw_is_the_same_windows_in_batches_of_any_size() {
        let tokens = Arc::new(Tokens::from_vec((0..500).collect()));
        let windows = Windows::new(tokens, 6, 5, 7, Stream::Evaluate).unwrap();
        let device = kernels::test_device();
        let ids = |loader: &dyn DataLoader<TokenBatch>| -> Vec<Vec<i64>> {
            loader.iter().map(|batch| batch.unwrap().inputs.into_data().iter::<i64>().collect()).collect()
        };
        let [two, five] = [2, 5].map(|size| WindowLoader::once(windows.clone(), size, &device));
        let (in_twos, whole) = (ids(&two), ids(&five));
        assert_eq!((two.num_items(), in_twos.len(), in_twos[2].len(), whole.len()), (3, 3, 6, 1));
        assert_eq!(in_twos.concat(), whole.concat());
        assert_eq!(ids(&*two.slice(1, 3)), in_twos[1..]);
    }
}
