//! Windows of tokens as batches on a device.

use std::ops::Range;

use burn::prelude::*;
use dataset::{Batch, PackedPair, Prefetch, Samples};
use model::{Documents, Gpt, Targets};

use crate::preference::{PreferenceSums, derivatives, differences, margins};

/// Tokens and the trained ones of the tokens after them.
#[derive(Debug, Clone)]
pub(crate) struct TokenBatch {
    /// `[B, T]`
    pub(crate) inputs: Tensor<2, Int>,
    pub(crate) targets: Targets,
    /// Examples packed into the rows; `None` for windows of a text.
    pub(crate) documents: Option<Documents>,
    /// Empty unless the examples are pairs.
    pairs: Vec<PackedPair>,
    /// The weight of the batch's mean loss.
    pub(crate) weight: f64,
}

/// The mean loss of a batch, `[1]`, for training.
pub(crate) struct Objective {
    /// Without gradients.
    pub(crate) loss: Tensor<1>,
    /// Has the gradient of the loss. Its value is another one for pairs.
    pub(crate) differentiable: Tensor<1>,
}

impl TokenBatch {
    fn new(batch: Batch, device: &Device) -> Self {
        let Batch { inputs, targets, batch_size, block_size, packing } = batch;
        let tensor = |ids| Tensor::from_data(TensorData::new(ids, [batch_size, block_size]), device);
        let (inputs, targets) = (tensor(inputs), tensor(targets));
        let Some(packing) = packing else { return Self::of_windows(inputs, targets) };
        let index = |&index: &usize| i32::try_from(index).expect("a batch has fewer than 2^31 tokens");
        let trained: Vec<i32> = packing.trained.iter().map(index).collect();
        let trained = Tensor::from_data(TensorData::from(trained.as_slice()), device);
        Self {
            inputs,
            targets: Targets::some(targets, trained),
            documents: Some(Documents::new(&packing.lengths, block_size)),
            pairs: packing.pairs,
            weight: packing.weight,
        }
    }

    /// A batch of windows: all targets are trained.
    pub(crate) fn of_windows(inputs: Tensor<2, Int>, targets: Tensor<2, Int>) -> Self {
        let targets = Targets::all(targets);
        Self { inputs, targets, documents: None, pairs: Vec::new(), weight: 1.0 }
    }

    /// The weight of the batch in an evaluation: its windows, or its trained targets.
    pub(crate) fn evaluation_weight(&self) -> f64 {
        let [n_rows, _] = self.inputs.dims();
        if self.documents.is_some() { self.weight } else { n_rows as f64 }
    }

    /// The mean loss of the trained targets, `[1]`.
    pub(crate) fn loss(self, gpt: &Gpt) -> Tensor<1> {
        gpt.head_loss(gpt.hidden(self.inputs, self.documents.as_ref()), self.targets)
    }

    /// The mean loss of the trained targets after hidden vectors `[B, T, C]`, or with `beta` of the pairs.
    ///
    /// # Panics
    ///
    /// If the examples are not pairs, but there is a `beta`.
    pub(crate) fn objective(&self, gpt: &Gpt, hidden: Tensor<3>, beta: Option<f64>) -> Objective {
        let targets = self.targets.clone();
        let Some(beta) = beta else {
            let loss = gpt.head_loss(hidden, targets);
            return Objective { loss: loss.clone().inner(), differentiable: loss };
        };
        let pairs = self.pairs();
        let mut loss = f64::NAN;
        let weigh = |logprobs: &[f32]| {
            let margins = margins(logprobs, pairs, beta);
            loss = PreferenceSums::of(&margins).loss();
            derivatives(&margins, pairs, beta)
        };
        let differentiable = gpt.head_weighted_loss(hidden, targets, weigh);
        let loss = Tensor::from_floats([loss], &differentiable.device().inner());
        Objective { loss, differentiable }
    }

    /// The sums over the pairs of an evaluation.
    ///
    /// # Panics
    ///
    /// If the examples are not pairs.
    pub(crate) fn preferences(self, gpt: &Gpt, beta: f64) -> PreferenceSums {
        PreferenceSums::of(&margins(&self.logprobs(gpt), self.pairs(), beta))
    }

    /// The log-probability of the preferred answer less that of the other one, for each pair by its index in the data.
    ///
    /// # Panics
    ///
    /// If the examples are not pairs.
    pub(crate) fn differences(self, gpt: &Gpt) -> impl Iterator<Item = (usize, f64)> {
        let differences = differences(&self.logprobs(gpt), self.pairs());
        self.pairs.into_iter().map(|pair| pair.idx).zip(differences)
    }

    /// The log-probabilities of the trained targets.
    fn logprobs(&self, gpt: &Gpt) -> Vec<f32> {
        let hidden = gpt.hidden(self.inputs.clone(), self.documents.as_ref());
        let logprobs = gpt.head_logprobs(hidden, self.targets.clone());
        logprobs.into_data().try_into_vec().expect("log-probabilities are f32")
    }

    fn pairs(&self) -> &[PackedPair] {
        assert!(self.documents.is_some(), "pairs are packed");
        &self.pairs
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
    pub(crate) fn for_steps(
        samples: impl Into<Samples>,
        steps: Range<u64>,
        per_step: u64,
        device: &Device,
    ) -> Self {
        let n_left = (steps.end - steps.start) * per_step;
        Self {
            batches: Prefetch::new(samples, steps.start, per_step),
            next: None,
            n_left,
            device: device.clone(),
        }
    }

    /// The batches of an evaluation.
    pub(crate) fn of(
        batches: impl ExactSizeIterator<Item = Batch> + Send + 'static,
        device: &Device,
    ) -> Self {
        let n_left = batches.len() as u64;
        Self { batches: Prefetch::of(batches), next: None, n_left, device: device.clone() }
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

    use dataset::{BatchIndex, RngStream, Tokens, Windows};

    use super::*;

    fn ids(tensor: Tensor<2, Int>) -> Vec<i64> {
        tensor.into_data().iter::<i64>().collect()
    }

    #[test]
    fn batches_on_the_device_equal_the_windows_of_their_steps() {
        let tokens = Arc::new(Tokens::from_vec((0..500).collect()));
        let windows = Windows::new(tokens, 6, 3, 7, RngStream::Train).unwrap();
        let batches = Batches::for_steps(windows.clone(), 5..7, 2, &kernels::testing::test_device());
        let uploaded: Vec<_> = batches.map(|batch| (ids(batch.inputs), ids(batch.targets.ids()))).collect();
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
            let batches = windows.clone().in_batches(BatchIndex::default(), size);
            let batches = Batches::of(batches, &kernels::testing::test_device());
            batches.map(|batch| ids(batch.inputs)).collect()
        });
        assert_eq!((in_twos.len(), in_twos[2].len(), whole.len()), (3, 6, 1));
        assert_eq!(in_twos.concat(), whole.concat());
    }
}
