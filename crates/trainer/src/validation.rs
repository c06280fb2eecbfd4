//! The validation loss.

use std::sync::Arc;

use burn::prelude::*;
use dataset::{Batch, BatchIndex, PackedRows, Samples};
use kernels::on_device_thread;
use model::Gpt;
use ranks::Group;

use crate::{
    Control, Error, EvaluationSize, Recipe, TrainingData,
    batches::Batches,
    preference::{PreferenceFigures, PreferenceSums},
};

/// The evaluation batches: the same each time, so that losses are comparable.
pub(crate) struct Validation {
    samples: Samples,
    size: EvaluationSize,
    batch_size: usize,
    /// Of preference tuning.
    beta: Option<f64>,
    device: Device,
    group: Arc<dyn Group>,
}

/// The figures of a batch that ranks exchange.
type BatchValues = [f64; 4];

/// The figures of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Measured {
    /// The mean loss in nats: per token, or per pair.
    pub(crate) loss: f64,
    /// Of preference tuning.
    pub(crate) preferences: Option<PreferenceFigures>,
}

impl Validation {
    /// `group` shares the batches.
    ///
    /// # Errors
    ///
    /// If the text is shorter than a block, or an example longer.
    pub(crate) fn new(
        data: &TrainingData,
        recipe: &Recipe,
        device: &Device,
        group: Arc<dyn Group>,
    ) -> Result<Self, Error> {
        let size = recipe.schedule.evaluation_size();
        let samples = data.validation_samples(recipe)?;
        let (batch_size, beta) = (recipe.optimizer.batch_size.get(), recipe.dpo.map(|dpo| dpo.beta));
        Ok(Self { samples, size, batch_size, beta, device: device.clone(), group })
    }

    /// The batches of this rank: those with its index, and every n-th after it of n ranks.
    fn batches(&self) -> Batches {
        let (samples, batch_size) = (self.samples.clone(), self.batch_size);
        match (samples, self.size) {
            (Samples::Windows(windows), EvaluationSize::Windows(_)) => {
                self.share(windows.in_batches(BatchIndex::default(), batch_size))
            }
            // The windows of step 0, as in runs before `eval_windows` existed.
            (Samples::Windows(windows), EvaluationSize::Batches(n_batches)) => {
                let n_batches = usize::try_from(n_batches.get()).expect("an evaluation has few batches");
                let micro_batch = |idx| BatchIndex { step: 0, micro_batch: idx as u64 };
                self.share((0..n_batches).map(move |idx| windows.batch(micro_batch(idx))))
            }
            (Samples::Packed(rows), size) => {
                let n_rows = size.n_rows(batch_size);
                self.share(PackedRows::in_batches(rows, n_rows, batch_size))
            }
        }
    }

    fn share(&self, batches: impl ExactSizeIterator<Item = Batch> + Send + 'static) -> Batches {
        Batches::of(batches.skip(self.group.index()).step_by(self.group.size()), &self.device)
    }

    /// Measures the loss, or returns `None` if any rank is asked to stop meanwhile. The result does not depend on the
    /// number of ranks.
    ///
    /// # Errors
    ///
    /// If another rank has failed.
    pub(crate) fn measure(&self, gpt: &Gpt, control: &Control) -> Result<Option<Measured>, Error> {
        let own = on_device_thread(&self.device, || match self.beta {
            Some(beta) => self.preferences(gpt, beta, control),
            None => self.losses(gpt, control),
        });
        let Some(batches) = self.of_all_ranks(own)? else { return Ok(None) };
        Ok(Some(match self.beta {
            Some(_) => {
                let mut sums = PreferenceSums::default();
                batches.into_iter().for_each(|batch| sums.add(PreferenceSums::from_values(batch)));
                Measured { loss: sums.loss(), preferences: Some(sums.figures()) }
            }
            None => Measured { loss: weighted_mean(&batches), preferences: None },
        }))
    }

    /// The sums of each batch.
    fn preferences(&self, gpt: &Gpt, beta: f64, control: &Control) -> Option<Vec<BatchValues>> {
        let batches = self.batches().map(|batch| {
            let is_stopped = control.should_stop();
            (!is_stopped).then(|| batch.preferences(gpt, beta).to_values())
        });
        batches.collect()
    }

    /// The loss and the weight of each batch, and two zeros.
    fn losses(&self, gpt: &Gpt, control: &Control) -> Option<Vec<BatchValues>> {
        let (mut losses, mut weights) = (Vec::new(), Vec::new());
        for batch in self.batches() {
            if control.should_stop() {
                return None;
            }
            weights.push(batch.evaluation_weight());
            losses.push(batch.loss(gpt));
        }
        if losses.is_empty() {
            return Some(Vec::new()); // There are more ranks than batches.
        }
        let losses: Vec<f32> = Tensor::cat(losses, 0).into_data().try_into_vec().expect("losses are f32");
        let batches = losses.into_iter().zip(weights);
        Some(batches.map(|(loss, weight)| [f64::from(loss), weight, 0.0, 0.0]).collect())
    }

    /// The values of the batches of all ranks, in batch order. `None` if a rank has none because it is asked to stop.
    fn of_all_ranks(&self, own: Option<Vec<BatchValues>>) -> Result<Option<Vec<BatchValues>>, Error> {
        let flag = [u8::from(own.is_some())];
        let values = own.into_iter().flatten().flatten().flat_map(f64::to_le_bytes);
        let all = self.group.gather(flag.into_iter().chain(values).collect())?;
        if all.iter().any(|rank| rank.first() != Some(&1)) {
            return Ok(None);
        }
        let mut ranks: Vec<_> = all.iter().map(|rank| rank[1..].as_chunks().0.iter()).collect();
        let n_batches: usize = ranks.iter().map(ExactSizeIterator::len).sum();
        let n_ranks = ranks.len();
        let batches = (0..n_batches).filter_map(|idx| ranks[idx % n_ranks].next());
        let number = |bytes: &[u8]| f64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        Ok(Some(
            batches.map(|batch: &[u8; 32]| [0, 8, 16, 24].map(|at| number(&batch[at..at + 8]))).collect(),
        ))
    }
}

/// The mean loss from the means of batches and their weights.
fn weighted_mean(batches: &[BatchValues]) -> f64 {
    let full = batches.first().map_or(1.0, |[_, weight, ..]| *weight);
    // With equal batches, each weight is exactly 1, and this is bitwise their plain mean.
    let weights = || batches.iter().map(|[_, weight, ..]| weight / full);
    let sum: f64 = batches.iter().zip(weights()).map(|([loss, ..], weight)| loss * weight).sum();
    sum / weights().sum::<f64>()
}
