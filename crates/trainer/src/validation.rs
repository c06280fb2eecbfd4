//! The validation loss.

use std::sync::Arc;

use burn::{prelude::*, train::InferenceStep};
use dataset::{RngStream, Tokens, Windows};
use model::Gpt;

use crate::{Control, Error, EvaluationSize, Recipe, batches::Batches, trainable_gpt::TrainableGpt};

/// The evaluation windows: the same each time, so that losses are comparable.
pub(crate) struct Validation {
    windows: Windows,
    size: EvaluationSize,
    batch_size: usize,
    device: Device,
}

impl Validation {
    /// # Errors
    ///
    /// If the text is shorter than a block.
    pub(crate) fn new(valid: Arc<Tokens>, recipe: &Recipe, device: &Device) -> Result<Self, Error> {
        let (block_size, batch_size) = (recipe.model.block_size, recipe.optimizer.batch_size.get());
        let size = recipe.schedule.evaluation_size();
        let n_rows = match size {
            EvaluationSize::Windows(n_windows) => usize::try_from(n_windows.get()).unwrap_or(usize::MAX),
            EvaluationSize::Batches(_) => batch_size,
        };
        let windows = Windows::new(valid, block_size, n_rows, recipe.run.seed, RngStream::Evaluate)?;
        Ok(Self { windows, size, batch_size, device: device.clone() })
    }

    fn batches(&self) -> Batches {
        let windows = self.windows.clone();
        match self.size {
            EvaluationSize::Windows(_) => Batches::for_evaluation(windows, self.batch_size, &self.device),
            // The windows of step 0, as in runs before `eval_windows` existed.
            EvaluationSize::Batches(n_batches) => {
                Batches::for_steps(windows, 0..1, n_batches.get(), &self.device)
            }
        }
    }

    /// The mean loss in nats per token, or `None` if a stop is requested meanwhile.
    pub(crate) fn loss(&self, gpt: Gpt, control: &Control) -> Option<f64> {
        let model = TrainableGpt::new(gpt, 1);
        let (mut losses, mut sizes) = (Vec::new(), Vec::new());
        for batch in self.batches() {
            if control.should_stop() {
                return None;
            }
            sizes.push(batch.inputs.dims()[0]);
            losses.push(InferenceStep::step(&model, batch).0);
        }
        let losses: Vec<f32> = Tensor::cat(losses, 0).into_data().try_into_vec().expect("losses are f32");
        Some(mean_over_windows(&losses, &sizes))
    }
}

/// The mean loss of all windows from the means of batches. The last batch may be smaller.
fn mean_over_windows(losses: &[f32], sizes: &[usize]) -> f64 {
    let full = sizes.first().copied().unwrap_or(1) as f64;
    // A full batch has a weight of exactly 1, so that with equal batches this is bitwise their plain mean.
    let weights = || sizes.iter().map(|&size| size as f64 / full);
    let sum: f64 = losses.iter().zip(weights()).map(|(&loss, weight)| f64::from(loss) * weight).sum();
    sum / weights().sum::<f64>()
}
