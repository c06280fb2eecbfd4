//! Short training experiments that create no run.

use std::{iter, sync::Arc};

use burn::prelude::*;
use kernels::on_device_thread;
use model::Gpt;

use crate::{
    Control, Error, Recipe, TrainingData,
    batches::{Batches, TokenBatch},
    learner::GptLearner,
    reference::with_reference,
    step::optimizer_step,
};

/// The kind of experiment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Probe {
    /// Repeats the first batch at the recipe's learning rate, without dropout. A model that can't memorise a few
    /// hundred tokens has a bug.
    OneBatch,
    /// A learning rate that grows from `lowest` to `highest` by the same factor each step
    /// ([Smith 2017](https://arxiv.org/abs/1506.01186), section 3.3).
    LearningRate { lowest: f64, highest: f64 },
}

/// A step of an experiment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProbeStep {
    pub step: u64,
    pub learning_rate: f64,
    /// Before the update, in nats per token.
    pub loss: f64,
}

/// Runs `n_steps` steps, or fewer if stopped. `observe` receives each step.
///
/// # Errors
///
/// If the text is shorter than a block.
pub(crate) fn probe(
    probe: Probe,
    (model, recipe): (Gpt, &Recipe),
    data: &TrainingData,
    device: &Device,
    n_steps: u64,
    control: &Control,
    mut observe: impl FnMut(ProbeStep),
) -> Result<(), Error> {
    let plain = model.clone().with_precision(recipe.run.precision);
    let Some(data) = with_reference(data.clone(), recipe, &plain, control)? else { return Ok(()) };
    let samples = data.training_samples(recipe)?;
    let autodiff = device.clone().autodiff();
    let micro_batches = recipe.optimizer.grad_accumulation.get();
    let batches = Batches::for_steps(samples, 0..n_steps, micro_batches, &autodiff);
    let (model, mut batches): (Gpt, Box<dyn Iterator<Item = TokenBatch> + Send>) = match probe {
        Probe::OneBatch => {
            // Repeated, it is the whole of each step.
            let whole = batches.take(1).map(|mut batch| {
                batch.weight = 1.0;
                batch
            });
            (model.with_dropout(0.0).with_lora_dropout(0.0), Box::new(whole.flat_map(iter::repeat)))
        }
        Probe::LearningRate { .. } => (model, Box::new(batches)),
    };
    let highest_rate = recipe.optimizer.learning_rate;
    let rate = move |step: u64| match probe {
        Probe::OneBatch => highest_rate,
        Probe::LearningRate { lowest, highest } => {
            lowest * (highest / lowest).powf(step as f64 / n_steps.saturating_sub(1).max(1) as f64)
        }
    };
    let mut learner = GptLearner::new(model, recipe, Arc::new(rate), 0);
    for step in 0..n_steps {
        if control.should_stop() {
            break;
        }
        let mut seen = ProbeStep { step, learning_rate: rate(step), loss: f64::NAN };
        on_device_thread(&autodiff.clone().inner(), || {
            optimizer_step(&mut learner, &mut batches, recipe, step, &autodiff, |measured| {
                seen.loss = measured.loss;
                measured.loss.is_finite() && measured.grad_norm.is_finite()
            })
        })?;
        observe(seen);
    }
    Ok(())
}
