//! Replicas of the model on additional devices for data-parallel training.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread::{self, JoinHandle},
};

use burn::prelude::*;

use crate::{
    Error, Recipe,
    batches::Batches,
    control::Requests,
    gradients::clip_scale,
    guard::{GuardMode, check_step_on_device, is_usable},
    learner::GptLearner,
    optimizer_command::Scale,
    process_group::Rank,
    step::gradient,
};

/// An additional device with its own copy of model and optimizer state.
pub(crate) struct Replica {
    pub(crate) rank: Rank,
    /// The autodiff device, which records gradients.
    pub(crate) device: Device,
    pub(crate) learner: GptLearner,
    /// This rank's share of each batch.
    pub(crate) batches: Batches,
}

/// The parameters of the next step.
#[derive(Debug, Clone, Copy)]
struct NextStep {
    index: u64,
    /// The loss above which the step counts as a spike.
    spike_limit: Option<f32>,
}

/// Replicas, each on its own thread. Dropping this stops them.
pub(crate) struct Replicas(Vec<(Sender<NextStep>, JoinHandle<()>)>);

impl Replicas {
    pub(crate) fn start(replicas: Vec<Replica>, recipe: &Recipe, guard_mode: GuardMode) -> Self {
        let start = |replica: Replica| {
            let (sender, steps) = channel();
            let recipe = recipe.clone();
            (sender, thread::spawn(move || follow(&steps, replica, &recipe, guard_mode)))
        };
        Self(replicas.into_iter().map(start).collect())
    }

    /// Starts a step on all replicas.
    ///
    /// # Errors
    ///
    /// If a replica has stopped.
    pub(crate) fn step(&self, index: u64, spike_limit: Option<f32>) -> Result<(), Error> {
        for (sender, _) in &self.0 {
            sender.send(NextStep { index, spike_limit }).map_err(|_| Error::DeviceFailed)?;
        }
        Ok(())
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        for (sender, thread) in self.0.drain(..) {
            drop(sender);
            // The panic hook has printed the message, and the panic has already ended training.
            let _ = thread.join();
        }
    }
}

/// Takes steps until the sender is dropped.
fn follow(steps: &Receiver<NextStep>, replica: Replica, recipe: &Recipe, guard_mode: GuardMode) {
    let Replica { rank, device, mut learner, mut batches } = replica;
    for NextStep { index, spike_limit } in steps {
        let no_requests = (&rank, Requests::default());
        let Ok(gradient) = gradient(&mut learner, &mut batches, recipe, index, &device, no_requests) else {
            return; // Dropping the rank notifies the others.
        };
        let clip = recipe.optimizer.grad_clip;
        let scale = match guard_mode {
            GuardMode::OnHost => match gradient.read() {
                step if is_usable(step, spike_limit) => Scale::Known(clip_scale(step.grad_norm, clip)),
                _ => Scale::Skipped,
            },
            GuardMode::OnDevice => {
                Scale::on_device(check_step_on_device(&gradient.pending, spike_limit, clip))
            }
        };
        if gradient.apply(&mut learner, scale, &rank).is_err() {
            return;
        }
    }
}
