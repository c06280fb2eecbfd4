//! One optimizer step: the gradient over all micro-batches and devices, and the update.

use std::time::{Duration, Instant};

use burn::{
    module::Module,
    optim::{GradientsAccumulator, GradientsParams},
    prelude::*,
};
use kernels::{on_device_thread, with_dropout};
use model::dropout_seed;

use crate::{
    Error, Recipe,
    batches::TokenBatch,
    control::Requests,
    exchange::{Exchange, Exchanged},
    gradients,
    learner::GptLearner,
    optimizer_command::Scale,
    process_group::Rank,
};

/// Loss and gradient norm of an optimizer step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    /// The mean over its micro-batches.
    pub(crate) loss: f64,
    /// Before clipping.
    pub(crate) grad_norm: f64,
}

/// A [`Step`] still on the device; both tensors are `[1]`.
#[derive(Debug, Clone)]
pub(crate) struct PendingStep {
    pub(crate) loss: Tensor<1>,
    pub(crate) grad_norm: Tensor<1>,
}

impl PendingStep {
    /// Reads the steps, with one synchronisation for all.
    pub(crate) fn read(all: Vec<Self>) -> Vec<Step> {
        if all.is_empty() {
            return Vec::new();
        }
        let values = all.into_iter().flat_map(|step| [step.loss, step.grad_norm]).collect();
        let values: Vec<f32> = Tensor::cat(values, 0).into_data().try_into_vec().expect("losses are f32");
        let steps = values.as_chunks().0.iter();
        steps.map(|&[loss, norm]| Step { loss: f64::from(loss), grad_norm: f64::from(norm) }).collect()
    }
}

pub(crate) struct Gradient {
    grads: GradientsParams,
    pub(crate) pending: PendingStep,
    /// To any rank.
    pub(crate) requests: Requests,
    /// How long this rank had to wait for others so far.
    waited: Duration,
}

/// Computes the gradient of step `index` over all micro-batches and devices, and advances the learning rate. Does not
/// wait for the device, unless ranks exchange through host memory. `requests` are those to this rank.
///
/// With local steps, the gradient is that of this rank, and loss and norm are the means over the ranks: all ranks clip and
/// skip alike.
///
/// # Errors
///
/// If another rank has failed.
///
/// # Panics
///
/// If there is no batch left.
pub(crate) fn gradient(
    learner: &mut GptLearner,
    batches: &mut (impl Iterator<Item = TokenBatch> + Send),
    recipe: &Recipe,
    index: u64,
    autodiff: &Device,
    (rank, requests): (&Rank, Requests),
) -> Result<Gradient, Error> {
    let n_batches = recipe.optimizer.grad_accumulation.get();
    let plain = autodiff.clone().inner();
    let model = learner.model();
    let is_local = rank.size > 1 && recipe.run.has_local_steps();
    let overlaps = !is_local && rank.can_overlap() && recipe.run.overlap();

    let first_sequence = rank.index * (recipe.optimizer.batch_size.get() / rank.size);
    let mut exchange = Exchange::new(rank, recipe.run.exchange_precision());
    // Ranks that wait for each other must not occupy the pool's threads, which all ranks of one process share.
    let (grads, loss) = on_device_thread(&plain, || {
        let mut loss_sum = Tensor::zeros([1], &plain);
        let mut accumulator = GradientsAccumulator::new();
        for micro_batch in 0..n_batches {
            let batch = batches.next().expect("there is a batch for each step");
            let seed = dropout_seed(recipe.run.seed, index, micro_batch);
            let output = with_dropout(seed, first_sequence, || {
                if overlaps && micro_batch + 1 == n_batches {
                    let mut earlier = accumulator.grads();
                    let send = |grads| exchange.add(&model, &mut earlier, grads);
                    let output = model.step_by_block(batch, send);
                    accumulator.accumulate(&model, earlier);
                    output
                } else {
                    learner.train_step(batch)
                }
            });
            loss_sum = loss_sum + output.item.0;
            accumulator.accumulate(&model, output.grads);
        }
        (accumulator.grads(), loss_sum / n_batches as f64)
    });
    // The gradients can move to another thread, but not be shared with it.
    let with_norm = |grads| {
        on_device_thread(&plain, || {
            let grad_norm = gradients::global_norm(&model, &grads, &plain);
            (grads, grad_norm)
        })
    };
    if is_local {
        let (grads, norm) = with_norm(grads);
        learner.lr_step();
        let began = Instant::now();
        let (means, requests) = rank.start_status(Tensor::cat(vec![loss, norm], 0), requests).wait()?;
        let [loss, grad_norm] = [0, 1].map(|idx| means.clone().narrow(0, idx, 1));
        return Ok(Gradient {
            grads,
            pending: PendingStep { loss, grad_norm },
            requests,
            waited: began.elapsed(),
        });
    }
    let Exchanged { grads, loss, requests, waited } = match rank.size {
        1 => Exchanged { grads, loss, requests, waited: Duration::ZERO },
        _ => {
            exchange.add(&model, &mut GradientsParams::new(), grads);
            exchange.finish(&model, loss, requests)?
        }
    };
    let (grads, grad_norm) = match &rank.shards {
        None => with_norm(grads),
        Some(shards) => {
            let grad_norm = shards.global_norm(&model, &grads, &plain)?;
            (grads, grad_norm)
        }
    };
    learner.lr_step();
    Ok(Gradient { grads, pending: PendingStep { loss, grad_norm }, requests, waited })
}

impl Gradient {
    /// Reads loss and norm; waits for the device.
    pub(crate) fn read(&self) -> Step {
        PendingStep::read(vec![self.pending.clone()])[0]
    }

    /// Updates weights and optimizer state with the scaled gradient. Returns how long this rank had to wait for others in
    /// the step.
    ///
    /// # Errors
    ///
    /// If another rank has failed.
    pub(crate) fn apply(
        self,
        learner: &mut GptLearner,
        scale: Scale,
        rank: &Rank,
    ) -> Result<Duration, Error> {
        let is_skipped = matches!(scale, Scale::Skipped);
        let device = self.pending.loss.device();
        on_device_thread(&device, || learner.optimizer_step(self.grads, scale));
        let Some(shards) = &rank.shards else { return Ok(self.waited) };
        if is_skipped {
            return Ok(self.waited); // On all ranks, by the same mean.
        }
        let began = Instant::now();
        let weights = shards.gather_weights(&learner.model().valid())?;
        let waited = self.waited + began.elapsed();
        learner.assign(weights);
        Ok(waited)
    }
}

/// Takes one optimizer step. `is_usable` decides before the update whether it is skipped.
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
    batches: &mut (impl Iterator<Item = TokenBatch> + Send),
    recipe: &Recipe,
    index: u64,
    autodiff: &Device,
    is_usable: impl FnOnce(Step) -> bool,
) -> Result<Step, Error> {
    let alone = (&Rank::alone(), Requests::default());
    let gradient = gradient(learner, batches, recipe, index, autodiff, alone)?;
    let step = gradient.read();
    let scale = match is_usable(step) {
        true => Scale::Known(gradients::clip_scale(step.grad_norm, recipe.optimizer.grad_clip)),
        false => Scale::Skipped,
    };
    gradient.apply(learner, scale, &Rank::alone())?;
    Ok(step)
}
