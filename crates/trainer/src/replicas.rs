//! The same model on further devices, which take the same steps on their share of each batch.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread::{self, JoinHandle},
};

use burn::prelude::*;

use crate::{
    Error, Recipe, batches::Batches, guard::judge_on_device, learner::GptLearner, order::Scale,
    process_group::Rank, step::gradient,
};

/// A device that trains, with its own copy of the model and of the optimizer's state.
pub(crate) struct Replica {
    pub(crate) rank: Rank,
    /// Where gradients are recorded.
    pub(crate) device: Device,
    pub(crate) learner: GptLearner,
    /// Its share of each batch.
    pub(crate) batches: Batches,
}

/// The next step.
#[derive(Debug, Clone, Copy)]
struct NextStep {
    /// Steps before it.
    index: u64,
    /// The loss above which it is a spike.
    spike_limit: Option<f32>,
}

/// Replicas on threads of their own. They stop when this is dropped.
pub(crate) struct Replicas(Vec<(Sender<NextStep>, JoinHandle<()>)>);

impl Replicas {
    pub(crate) fn start(replicas: Vec<Replica>, recipe: &Recipe) -> Self {
        let start = |replica: Replica| {
            let (sender, steps) = channel();
            let recipe = recipe.clone();
            (sender, thread::spawn(move || follow(&steps, replica, &recipe)))
        };
        Self(replicas.into_iter().map(start).collect())
    }

    /// Has all of them take a step.
    ///
    /// # Errors
    ///
    /// If one has stopped.
    pub(crate) fn step(&self, index: u64, spike_limit: Option<f32>) -> Result<(), Error> {
        for (sender, _) in &self.0 {
            sender.send(NextStep { index, spike_limit }).map_err(|_| Error::DeviceLeft)?;
        }
        Ok(())
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        for (sender, thread) in self.0.drain(..) {
            drop(sender);
            // The hook of panics has the message, and the panic has ended the training.
            let _ = thread.join();
        }
    }
}

/// Takes steps until the sender is gone.
fn follow(steps: &Receiver<NextStep>, replica: Replica, recipe: &Recipe) {
    let Replica { rank, device, mut learner, mut batches } = replica;
    for NextStep { index, spike_limit } in steps {
        let Ok(gradient) = gradient(&mut learner, &mut batches, recipe, index, &device, &rank) else {
            return; // The others are told as the rank is dropped.
        };
        let scale = judge_on_device(&gradient.found, spike_limit, recipe.optimizer.grad_clip);
        gradient.descend(&mut learner, Scale::on_device(scale));
    }
}
