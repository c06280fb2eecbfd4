//! The validation loss.

use burn::prelude::*;
use dataset::{BatchIndex, PackedRows, Samples};
use model::Gpt;

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
}

/// The figures of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Measured {
    /// The mean loss in nats: per token, or per pair.
    pub(crate) loss: f64,
    /// Of preference tuning.
    pub(crate) preferences: Option<PreferenceFigures>,
}

impl Validation {
    /// # Errors
    ///
    /// If the text is shorter than a block, or an example longer.
    pub(crate) fn new(data: &TrainingData, recipe: &Recipe, device: &Device) -> Result<Self, Error> {
        let size = recipe.schedule.evaluation_size();
        let samples = data.validation_samples(recipe)?;
        let (batch_size, beta) = (recipe.optimizer.batch_size.get(), recipe.dpo.map(|dpo| dpo.beta));
        Ok(Self { samples, size, batch_size, beta, device: device.clone() })
    }

    fn batches(&self) -> Batches {
        let (samples, batch_size) = (self.samples.clone(), self.batch_size);
        match (samples, self.size) {
            (Samples::Windows(windows), EvaluationSize::Windows(_)) => {
                Batches::of(windows.in_batches(BatchIndex::default(), batch_size), &self.device)
            }
            // The windows of step 0, as in runs before `eval_windows` existed.
            (Samples::Windows(windows), EvaluationSize::Batches(n_batches)) => {
                Batches::for_steps(windows, 0..1, n_batches.get(), &self.device)
            }
            (Samples::Packed(rows), size) => {
                let n_rows = size.n_rows(batch_size);
                Batches::of(PackedRows::in_batches(rows, n_rows, batch_size), &self.device)
            }
        }
    }

    /// Measures the loss, or returns `None` if a stop is requested meanwhile.
    pub(crate) fn measure(&self, gpt: &Gpt, control: &Control) -> Option<Measured> {
        match self.beta {
            Some(beta) => self.preferences(gpt, beta, control),
            None => self.loss(gpt, control).map(|loss| Measured { loss, preferences: None }),
        }
    }

    fn preferences(&self, gpt: &Gpt, beta: f64, control: &Control) -> Option<Measured> {
        let mut sums = PreferenceSums::default();
        for batch in self.batches() {
            if control.should_stop() {
                return None;
            }
            sums.add(batch.preferences(gpt, beta));
        }
        Some(Measured { loss: sums.loss(), preferences: Some(sums.figures()) })
    }

    fn loss(&self, gpt: &Gpt, control: &Control) -> Option<f64> {
        let (mut losses, mut weights) = (Vec::new(), Vec::new());
        for batch in self.batches() {
            if control.should_stop() {
                return None;
            }
            weights.push(batch.evaluation_weight());
            losses.push(batch.loss(gpt));
        }
        let losses: Vec<f32> = Tensor::cat(losses, 0).into_data().try_into_vec().expect("losses are f32");
        Some(weighted_mean(&losses, &weights))
    }
}

/// The mean loss from the means of batches and their weights.
fn weighted_mean(losses: &[f32], weights: &[f64]) -> f64 {
    let full = weights.first().copied().unwrap_or(1.0);
    // With equal batches, each weight is exactly 1, and this is bitwise their plain mean.
    let weights = || weights.iter().map(|&weight| weight / full);
    let sum: f64 = losses.iter().zip(weights()).map(|(&loss, weight)| f64::from(loss) * weight).sum();
    sum / weights().sum::<f64>()
}
