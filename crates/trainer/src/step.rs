//! One optimizer step: a gradient, and what is done with it.

use burn::{
    data::dataloader::DataLoaderIterator,
    optim::{GradientsAccumulator, GradientsParams},
    prelude::*,
    train::Learner,
};
use kernels::seed_dropout;
use model::dropout_seed;

use crate::{
    Error, Recipe,
    batches::TokenBatch,
    gradients,
    optimizer::{Scale, with_scale},
    team::Seat,
    trainee::Trainee,
};

/// What an optimizer step has found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    /// The mean loss of its micro-batches.
    pub(crate) loss: f64,
    /// The norm of its gradient before clipping.
    pub(crate) grad_norm: f64,
}

/// [`Step`] while it is still on the device, `[1]` each.
#[derive(Debug, Clone)]
pub(crate) struct Unread {
    pub(crate) loss: Tensor<1>,
    pub(crate) grad_norm: Tensor<1>,
}

impl Unread {
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
    pub(crate) found: Unread,
}

/// The gradient of the step after `index` others, over all its micro-batches and all devices; and the learning rate moves on
/// to that of the step. Nothing waits for the device.
///
/// # Errors
///
/// If a batch can't be read, or another device has stopped.
///
/// # Panics
///
/// If the loader has no batch left.
pub(crate) fn gradient(
    learner: &mut Learner<Trainee>,
    batches: &mut dyn DataLoaderIterator<TokenBatch>,
    recipe: &Recipe,
    index: u64,
    autodiff: &Device,
    seat: &Seat,
) -> Result<Gradient, Error> {
    let n_batches = recipe.optimizer.grad_accumulation.get();
    let plain = autodiff.clone().inner();
    let model = learner.model();

    let mut loss_sum = Tensor::zeros([1], &plain);
    let mut accumulator = GradientsAccumulator::new();
    for micro_batch in 0..n_batches {
        let batch = batches.next().expect("the loader has a batch for each step")?;
        let share = micro_batch * seat.size as u64 + seat.rank as u64;
        seed_dropout(dropout_seed(recipe.run.seed, index, share));
        let output = learner.train_step(batch);
        loss_sum = loss_sum + output.item.0;
        accumulator.accumulate(&model, output.grads);
    }
    let (grads, loss) = gradients::mean_over(seat, &model, accumulator.grads(), loss_sum / n_batches as f64)?;
    let grad_norm = gradients::global_norm(&model, &grads, &plain);
    learner.lr_step();
    Ok(Gradient { grads, found: Unread { loss, grad_norm } })
}

impl Gradient {
    /// Waits for the device.
    pub(crate) fn read(&self) -> Step {
        Unread::read(vec![self.found.clone()])[0]
    }

    /// Changes the weights, and the optimizer's state, by this gradient times a scale.
    pub(crate) fn descend(self, learner: &mut Learner<Trainee>, scale: Scale) {
        with_scale(scale, || learner.optimizer_step(self.grads));
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
    learner: &mut Learner<Trainee>,
    batches: &mut dyn DataLoaderIterator<TokenBatch>,
    recipe: &Recipe,
    index: u64,
    autodiff: &Device,
    use_it: impl FnOnce(Step) -> bool,
) -> Result<Step, Error> {
    let gradient = gradient(learner, batches, recipe, index, autodiff, &Seat::alone())?;
    let step = gradient.read();
    if use_it(step) {
        let factor = gradients::clip_scale(step.grad_norm, recipe.optimizer.grad_clip);
        gradient.descend(learner, Scale::Known(factor));
    }
    Ok(step)
}
