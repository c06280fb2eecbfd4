//! How long a step takes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use burn::{data::dataloader::DataLoader, prelude::*};
use dataset::{Stream, Tokens, Windows};
use model::Gpt;

use crate::{Error, Recipe, batches::WindowLoader, step::optimizer_step, train::learner};

/// Times each of `n_steps` optimizer steps as [`train`](crate::train()) takes them, over tokens of no meaning. The first are
/// slower; the very first compiles kernels, on a device that does.
///
/// # Errors
///
/// If the recipe's block is longer than the tokens made for it, which it never is.
pub fn time_steps(
    model: Gpt,
    recipe: &Recipe,
    n_steps: u64,
    device: &Device,
) -> Result<Vec<Duration>, Error> {
    let config = model.config().clone();
    let vocab_size = u32::try_from(config.vocab_size).expect("a vocabulary has less than 2^31 tokens");
    let n_tokens = u32::try_from(16 * config.block_size).expect("a block is far below 2^28 tokens");
    // A stride coprime to most sizes, so that every token occurs.
    let ids = (0..n_tokens).map(|i| i.wrapping_mul(2_654_435_761) % vocab_size).collect();
    let tokens = Arc::new(Tokens::from_vec(ids));
    let batch_size = recipe.optimizer.batch_size.get();
    let windows = Windows::new(tokens, config.block_size, batch_size, recipe.run.seed, Stream::Train)?;

    let autodiff = device.clone().autodiff();
    let n_micro_batches = recipe.optimizer.grad_accumulation.get();
    let loader = WindowLoader::new(windows, 0..n_steps, n_micro_batches, &autodiff);
    let mut batches = loader.iter();
    let mut learner = learner(model, recipe);
    let mut times = Vec::new();
    for step in 0..n_steps {
        let start = Instant::now();
        optimizer_step(&mut learner, &mut *batches, recipe, step, &autodiff, |_| true)?;
        // What was queued is part of the step; what fails of it, fails the next one too.
        let _ = device.sync();
        times.push(start.elapsed());
    }
    Ok(times)
}
