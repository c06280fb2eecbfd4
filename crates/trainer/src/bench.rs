//! How long a step takes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use burn::prelude::*;
use dataset::{Stream, Tokens, Windows};
use model::Gpt;

use crate::{
    Error, Recipe, Schedule,
    batches::Batches,
    gradients::clip_scale,
    guard::{Judging, judge_on_device},
    learner::GptLearner,
    order::Scale,
    process_group::Rank,
    step::gradient,
};

/// Steps that a GPU is given before it is waited for. Training waits at lines of metrics; this is often enough for a median.
const STEPS_AT_ONCE: u64 = 5;

/// Times optimizer steps as [`train`](crate::train()) takes them, over tokens of no meaning: each of `n_warmup` ones, which are
/// slower, and of which the very first compiles kernels on a device that does; then `n_steps` more, of which those that the
/// device does without being waited for count with their mean.
///
/// # Errors
///
/// If the recipe's block is longer than the tokens made for it, which it never is.
pub fn time_steps(
    model: Gpt,
    recipe: &Recipe,
    n_warmup: u64,
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
    let end = n_warmup + n_steps;
    let mut batches = Batches::of_steps(windows, 0..end, n_micro_batches, &autodiff);
    let schedule = Schedule::new(&recipe.optimizer, &recipe.schedule);
    let mut learner = GptLearner::new(model, recipe, Arc::new(move |step| schedule.at(step)), 0);
    let judging = Judging::best(device);
    let without_waiting = match judging {
        Judging::AtOnce => 1,
        Judging::OnDevice => STEPS_AT_ONCE,
    };
    let (mut times, mut step) = (Vec::new(), 0);
    while step < end {
        let n = if step < n_warmup { 1 } else { without_waiting.min(end - step) };
        let start = Instant::now();
        for step in step..step + n {
            let gradient = gradient(&mut learner, &mut batches, recipe, step, &autodiff, &Rank::alone())?;
            let clip = recipe.optimizer.grad_clip;
            let scale = match judging {
                Judging::AtOnce => Scale::Known(clip_scale(gradient.read().grad_norm, clip)),
                Judging::OnDevice => Scale::on_device(judge_on_device(&gradient.found, None, clip)),
            };
            gradient.descend(&mut learner, scale);
        }
        step += n;
        // What was queued is part of the steps; what fails of it, fails the next one too.
        let _ = device.sync();
        times.push(start.elapsed().div_f64(n as f64));
    }
    Ok(times)
}
