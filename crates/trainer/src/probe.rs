//! Short experiments with a recipe, that leave no run behind: can it learn at all, and how fast should it.

use std::sync::Arc;

use burn::{
    data::{
        dataloader::{DataLoader, DataLoaderIterator, Progress},
        dataset::DatasetError,
    },
    prelude::*,
};
use dataset::{Stream, Tokens, Windows};
use model::Gpt;

use crate::{
    Control, Error, Recipe,
    batches::{TokenBatch, WindowLoader},
    step::optimizer_step,
    train::learner_at,
};

/// Which experiment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Probe {
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
pub fn probe(
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
    let loader = WindowLoader::new(windows, 0..n_steps, micro_batches, &autodiff);
    let mut batches = loader.iter();
    let model = match probe {
        Probe::OneBatch => {
            let first = batches.next().expect("there is a batch for each step")?;
            batches = Box::new(Same(first));
            model.with_dropout(0.0)
        }
        Probe::LearningRate { .. } => model,
    };
    let highest_rate = recipe.optimizer.learning_rate;
    let rate = move |step: u64| match probe {
        Probe::OneBatch => highest_rate,
        Probe::LearningRate { lowest, highest } => {
            lowest * (highest / lowest).powf(step as f64 / n_steps.saturating_sub(1).max(1) as f64)
        }
    };
    let mut learner = learner_at(model, recipe, Arc::new(rate));
    for step in 0..n_steps {
        if control.should_stop() {
            break;
        }
        let mut seen = Probed { step, learning_rate: rate(step), loss: f64::NAN };
        optimizer_step(&mut learner, &mut *batches, recipe, step, &autodiff, |found| {
            seen.loss = found.loss;
            found.loss.is_finite() && found.grad_norm.is_finite()
        })?;
        observe(seen);
    }
    Ok(())
}

/// One batch without end.
struct Same(TokenBatch);

impl Iterator for Same {
    type Item = Result<TokenBatch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(Ok(self.0.clone()))
    }
}

impl DataLoaderIterator<TokenBatch> for Same {
    fn progress(&self) -> Progress {
        Progress::new(0, 1, None)
    }
}
