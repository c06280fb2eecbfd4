//! Short experiments with a recipe, that leave no run behind: can it learn at all, and how fast should it.

use std::{iter, sync::Arc};

use burn::prelude::*;
use dataset::{Stream, Tokens, Windows};
use kernels::on_pool;
use model::Gpt;

use crate::{
    Control, Error, Recipe,
    batches::{Batches, TokenBatch},
    learner::GptLearner,
    step::optimizer_step,
};

/// Which experiment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Probe {
    /// The first batch again and again, at the recipe's learning rate and without dropout: a model that can't learn a
    /// few hundred tokens by heart has something wrong with it.
    OneBatch,
    /// A learning rate that grows from `lowest` to `highest` by the same factor each step
    /// ([Smith 2017](https://arxiv.org/abs/1506.01186), section 3.3).
    LearningRate {
        /// That of the first step.
        lowest: f64,
        /// That of the last step.
        highest: f64,
    },
}

/// One step of an experiment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Probed {
    /// Steps before it.
    pub step: u64,
    /// The rate that it is taken with.
    pub learning_rate: f64,
    /// The loss before it, in nats per token.
    pub loss: f64,
}

/// Makes an experiment of `n_steps` steps, or fewer if it is stopped, and gives the steps.
///
/// # Errors
///
/// If the text is shorter than a block.
pub(crate) fn probe(
    probe: Probe,
    (model, recipe): (Gpt, &Recipe),
    tokens: Arc<Tokens>,
    device: &Device,
    n_steps: u64,
    control: &Control,
    mut observe: impl FnMut(Probed),
) -> Result<(), Error> {
    let (block_size, batch_size) = (recipe.model.block_size, recipe.optimizer.batch_size.get());
    let windows = Windows::new(tokens, block_size, batch_size, recipe.run.seed, Stream::Train)?;
    let autodiff = device.clone().autodiff();
    let micro_batches = recipe.optimizer.grad_accumulation.get();
    let batches = Batches::of_steps(windows, 0..n_steps, micro_batches, &autodiff);
    let (model, mut batches): (Gpt, Box<dyn Iterator<Item = TokenBatch> + Send>) = match probe {
        Probe::OneBatch => (model.with_dropout(0.0), Box::new(batches.take(1).flat_map(iter::repeat))),
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
        let mut seen = Probed { step, learning_rate: rate(step), loss: f64::NAN };
        on_pool(|| {
            optimizer_step(&mut learner, &mut batches, recipe, step, &autodiff, |found| {
                seen.loss = found.loss;
                found.loss.is_finite() && found.grad_norm.is_finite()
            })
        })?;
        observe(seen);
    }
    Ok(())
}
