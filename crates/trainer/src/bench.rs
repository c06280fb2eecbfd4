//! Times optimizer steps for `kindling bench`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use burn::prelude::*;
use dataset::{RngStream, Tokens, Windows};
use model::Gpt;
use ranks::Group;

use crate::{
    Error, Recipe, Schedule,
    batches::Batches,
    control::Requests,
    counting::Counting,
    gradients::clip_scale,
    guard::{GuardMode, check_step_on_device},
    learner::GptLearner,
    local_steps::LocalSteps,
    optimizer_command::Scale,
    process_group::Rank,
    step::gradient,
};

/// Steps queued on a GPU between synchronisations. Training synchronises at lines of metrics; here it must be often
/// enough for a median.
const STEPS_PER_SYNC: u64 = 5;

/// Steps of a rank that trains with others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TogetherSteps {
    /// The time of all steps.
    pub duration: Duration,
    /// How long this rank had to wait for others.
    pub waited: Duration,
    /// The bytes that this rank sent to others.
    pub bytes_sent: u64,
}

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
    let end = n_warmup + n_steps;
    let learner = learner(model, recipe);
    let mut steps = Steps::new(learner, recipe, end, device, Rank::alone())?;
    let steps_per_sync = match steps.guard_mode {
        GuardMode::OnHost => 1,
        GuardMode::OnDevice => STEPS_PER_SYNC,
    };
    let (mut times, mut step) = (Vec::new(), 0);
    let mut begin: Option<Instant> = None;
    while step < end && (times.len() < 2 || begin.is_none_or(|begin| begin.elapsed() < limit)) {
        let n = if step < n_warmup { 1 } else { steps_per_sync.min(end - step) };
        let start = Instant::now();
        for step in step..step + n {
            steps.take(step)?;
        }
        step += n;
        // Queued work is part of the steps. An error here also fails the next step.
        let _ = device.sync();
        times.push(start.elapsed().div_f64(n as f64));
        begin.get_or_insert_with(Instant::now);
    }
    Ok(times)
}

/// Times `n_steps` optimizer steps of a rank with the others of its group, after `n_warmup` steps. Each rank takes a whole batch
/// of the recipe.
///
/// # Errors
///
/// If another rank has failed. If the ranks can't train as the recipe says.
pub fn time_steps_together(
    model: Gpt,
    recipe: &Recipe,
    n_warmup: u64,
    n_steps: u64,
    device: &Device,
    group: &Arc<dyn Group>,
) -> Result<TogetherSteps, Error> {
    let counting = Arc::new(Counting::new(group.clone()));
    let group: Arc<dyn Group> = counting.clone();
    let mut rank = Rank::process(group.clone());
    rank.connect_gpus(device, &recipe.run)?;
    rank.check_exchange(&recipe.run)?;
    let mut learner = learner(model, recipe);
    if recipe.run.shard_optimizer {
        rank.divide_optimizer(&group, recipe, &mut learner);
    }
    let local_steps = LocalSteps::begin(recipe, &group, &learner, None)?;
    let end = n_warmup + n_steps;
    let steps = Steps::new(learner, recipe, end, device, rank)?;
    let mut steps = Steps { local_steps, ..steps };
    for step in 0..n_warmup {
        steps.take(step)?;
    }
    let _ = device.sync(); // An error here also fails the next step.
    group.barrier()?;
    let sent_before = counting.bytes_sent();
    let (start, mut waited) = (Instant::now(), Duration::ZERO);
    for step in n_warmup..end {
        waited += steps.take(step)?;
    }
    let _ = device.sync();
    Ok(TogetherSteps { duration: start.elapsed(), waited, bytes_sent: counting.bytes_sent() - sent_before })
}

fn learner(model: Gpt, recipe: &Recipe) -> GptLearner {
    let schedule = Schedule::new(&recipe.optimizer, &recipe.schedule);
    GptLearner::new(model, recipe, Arc::new(move |step| schedule.at(step)), 0)
}

/// A rank that takes steps on synthetic tokens.
struct Steps<'a> {
    learner: GptLearner,
    batches: Batches,
    recipe: &'a Recipe,
    /// The autodiff device.
    device: Device,
    guard_mode: GuardMode,
    rank: Rank,
    local_steps: Option<LocalSteps>,
}

impl<'a> Steps<'a> {
    /// A rank that can take `n_steps` steps, without local ones.
    fn new(
        learner: GptLearner,
        recipe: &'a Recipe,
        n_steps: u64,
        device: &Device,
        rank: Rank,
    ) -> Result<Self, Error> {
        let config = learner.gpt().config().clone();
        let vocab_size = u32::try_from(config.vocab_size).expect("a vocabulary has less than 2^31 tokens");
        let n_tokens = u32::try_from(16 * config.block_size).expect("a block is far below 2^28 tokens");
        // A stride coprime to most vocabulary sizes, so that every token occurs.
        let ids = (0..n_tokens).map(|i| i.wrapping_mul(2_654_435_761) % vocab_size).collect();
        let tokens = Arc::new(Tokens::from_vec(ids));
        let seed = recipe.run.seed.wrapping_add(rank.index as u64);
        let batch_size = recipe.optimizer.batch_size.get();
        let windows = Windows::new(tokens, config.block_size, batch_size, seed, RngStream::Train)?;

        let autodiff = device.clone().autodiff();
        let n_micro_batches = recipe.optimizer.grad_accumulation.get();
        let batches = Batches::for_steps(windows, 0..n_steps, n_micro_batches, &autodiff);
        let guard_mode = GuardMode::best(device);
        Ok(Self { learner, batches, recipe, device: autodiff, guard_mode, rank, local_steps: None })
    }

    /// Takes a step. Returns how long this rank had to wait for others.
    fn take(&mut self, step: u64) -> Result<Duration, Error> {
        let Self { learner, batches, recipe, device, guard_mode, rank, local_steps } = self;
        let gradient = gradient(learner, batches, recipe, step, device, (rank, Requests::default()))?;
        let clip = recipe.optimizer.grad_clip;
        let scale = match guard_mode {
            GuardMode::OnHost => Scale::Known(clip_scale(gradient.read().grad_norm, clip)),
            GuardMode::OnDevice => Scale::on_device(check_step_on_device(&gradient.pending, None, clip)),
        };
        let waited = gradient.apply(learner, scale, rank)?;
        match local_steps {
            Some(local) if recipe.synchronises_after(step + 1) => Ok(waited + local.synchronise(learner)?),
            _ => Ok(waited),
        }
    }
}
