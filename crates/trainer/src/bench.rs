//! Times optimizer steps for `kindling bench`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use burn::prelude::*;
use dataset::{RngStream, Tokens, Windows};
use model::Gpt;

use crate::{
    Error, Recipe, Schedule,
    batches::Batches,
    control::Requests,
    gradients::clip_scale,
    guard::{GuardMode, check_step_on_device},
    learner::GptLearner,
    optimizer_command::Scale,
    process_group::Rank,
    step::gradient,
};

/// Steps queued on a GPU between synchronisations. Training synchronises at lines of metrics; here it must be often
/// enough for a median.
const STEPS_PER_SYNC: u64 = 5;

/// Times the optimizer steps of [`train`](crate::train()) on synthetic tokens: first `n_warmup` slower steps, each
/// timed separately, then `n_steps` more. The very first step compiles kernels on a GPU. It stops after the first step and
/// `limit`, but not before two steps. Steps that a device runs without synchronisation are reported with their mean.
///
/// # Errors
///
/// If the block is longer than the synthetic tokens, which cannot happen.
pub fn time_steps(
    model: Gpt,
    recipe: &Recipe,
    n_warmup: u64,
    n_steps: u64,
    limit: Duration,
    device: &Device,
) -> Result<Vec<Duration>, Error> {
    let config = model.config().clone();
    let vocab_size = u32::try_from(config.vocab_size).expect("a vocabulary has less than 2^31 tokens");
    let n_tokens = u32::try_from(16 * config.block_size).expect("a block is far below 2^28 tokens");
    // A stride coprime to most vocabulary sizes, so that every token occurs.
    let ids = (0..n_tokens).map(|i| i.wrapping_mul(2_654_435_761) % vocab_size).collect();
    let tokens = Arc::new(Tokens::from_vec(ids));
    let batch_size = recipe.optimizer.batch_size.get();
    let windows = Windows::new(tokens, config.block_size, batch_size, recipe.run.seed, RngStream::Train)?;

    let autodiff = device.clone().autodiff();
    let n_micro_batches = recipe.optimizer.grad_accumulation.get();
    let end = n_warmup + n_steps;
    let mut batches = Batches::for_steps(windows, 0..end, n_micro_batches, &autodiff);
    let schedule = Schedule::new(&recipe.optimizer, &recipe.schedule);
    let mut learner = GptLearner::new(model, recipe, Arc::new(move |step| schedule.at(step)), 0);
    let guard_mode = GuardMode::best(device);
    let steps_per_sync = match guard_mode {
        GuardMode::OnHost => 1,
        GuardMode::OnDevice => STEPS_PER_SYNC,
    };
    let (mut times, mut step) = (Vec::new(), 0);
    let mut begin: Option<Instant> = None;
    while step < end && (times.len() < 2 || begin.is_none_or(|begin| begin.elapsed() < limit)) {
        let n = if step < n_warmup { 1 } else { steps_per_sync.min(end - step) };
        let start = Instant::now();
        for step in step..step + n {
            let alone = Rank::alone();
            let no_requests = (&alone, Requests::default());
            let gradient = gradient(&mut learner, &mut batches, recipe, step, &autodiff, no_requests)?;
            let clip = recipe.optimizer.grad_clip;
            let scale = match guard_mode {
                GuardMode::OnHost => Scale::Known(clip_scale(gradient.read().grad_norm, clip)),
                GuardMode::OnDevice => Scale::on_device(check_step_on_device(&gradient.pending, None, clip)),
            };
            gradient.apply(&mut learner, scale, &alone)?;
        }
        step += n;
        // Queued work is part of the steps. An error here also fails the next step.
        let _ = device.sync();
        times.push(start.elapsed().div_f64(n as f64));
        begin.get_or_insert_with(Instant::now);
    }
    Ok(times)
}
