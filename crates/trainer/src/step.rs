//! One optimizer step: a gradient, and what is done with it.

use burn::{
    optim::{GradientsAccumulator, GradientsParams},
    prelude::*,
};
use kernels::seed_dropout;
use model::dropout_seed;

use crate::{
    Error, Recipe, batches::TokenBatch, gradients, learner::GptLearner, order::Scale, process_group::Rank,
};

/// What an optimizer step has found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    /// The mean loss of its micro-batches.
    pub(crate) loss: f64,
    /// The norm of its gradient before clipping.
    pub(crate) grad_norm: f64,
}

/// A [`Step`] that is still on the device, `[1]` each.
#[derive(Debug, Clone)]
pub(crate) struct PendingStep {
    pub(crate) loss: Tensor<1>,
    pub(crate) grad_norm: Tensor<1>,
}

impl PendingStep {
    /// Waits for the device, once for all of them.
    pub(crate) fn read(all: Vec<Self>) -> Vec<Step> {
        if all.is_empty() {
            return Vec::new();
        }
        let numbers = all.into_iter().flat_map(|step| [step.loss, step.grad_norm]).collect();
        let numbers: Vec<f32> = Tensor::cat(numbers, 0).into_data().try_into_vec().expect("losses are f32");
        let steps = numbers.as_chunks().0.iter();
        steps.map(|&[loss, norm]| Step { loss: f64::from(loss), grad_norm: f64::from(norm) }).collect()
    }
}

/// The gradient of one optimizer step.
pub(crate) struct Gradient {
    grads: GradientsParams,
    pub(crate) found: PendingStep,
}

/// The gradient of the step after `index` others, over all its micro-batches and all devices; and the learning rate moves on
/// to that of the step. Nothing waits for the device.
///
/// # Errors
///
/// If another device has stopped.
///
/// # Panics
///
/// If there is no batch left.
pub(crate) fn gradient(
    learner: &mut GptLearner,
    batches: &mut impl Iterator<Item = TokenBatch>,
    recipe: &Recipe,
    index: u64,
    autodiff: &Device,
    rank: &Rank,
) -> Result<Gradient, Error> {
    let n_batches = recipe.optimizer.grad_accumulation.get();
    let plain = autodiff.clone().inner();
    let model = learner.model();

    let mut loss_sum = Tensor::zeros([1], &plain);
    let mut accumulator = GradientsAccumulator::new();
    for micro_batch in 0..n_batches {
        let batch = batches.next().expect("there is a batch for each step");
        let share = micro_batch * rank.size as u64 + rank.index as u64;
        seed_dropout(dropout_seed(recipe.run.seed, index, share));
        let output = learner.train_step(batch);
        loss_sum = loss_sum + output.item.0;
        accumulator.accumulate(&model, output.grads);
    }
    let (grads, loss) = gradients::mean_over(rank, &model, accumulator.grads(), loss_sum / n_batches as f64)?;
    let grad_norm = gradients::global_norm(&model, &grads, &plain);
    learner.lr_step();
    Ok(Gradient { grads, found: PendingStep { loss, grad_norm } })
}

impl Gradient {
    /// Waits for the device.
    pub(crate) fn read(&self) -> Step {
        PendingStep::read(vec![self.found.clone()])[0]
    }

    /// Changes the weights, and the optimizer's state, by this gradient times a scale.
    pub(crate) fn descend(self, learner: &mut GptLearner, scale: Scale) {
        learner.optimizer_step(self.grads, scale);
    }
}

/// One optimizer step that is judged before the weights change: `use_it` says whether they are to.
///
/// # Errors
///
/// As [`gradient`].
///
/// # Panics
///
/// As [`gradient`].
pub(crate) fn optimizer_step(
    learner: &mut GptLearner,
    batches: &mut impl Iterator<Item = TokenBatch>,
    recipe: &Recipe,
    index: u64,
    autodiff: &Device,
    use_it: impl FnOnce(Step) -> bool,
) -> Result<Step, Error> {
    let gradient = gradient(learner, batches, recipe, index, autodiff, &Rank::alone())?;
    let step = gradient.read();
    let scale = match use_it(step) {
        true => Scale::Known(gradients::clip_scale(step.grad_norm, recipe.optimizer.grad_clip)),
        false => Scale::Skipped,
    };
    gradient.descend(learner, scale);
    Ok(step)
}
