//! The same model on further devices, which take the same steps on their share of each batch.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread::{self, JoinHandle},
};

use burn::{data::dataloader::DataLoader, prelude::*, train::Learner};

use crate::{
    Error, Recipe, batches::WindowLoader, guard::judge_on_device, optimizer::Scale, step::gradient,
    team::Seat, trainee::Trainee,
};

/// A device that trains beside the first one.
pub(crate) struct Place {
    pub(crate) seat: Seat,
    /// Where gradients are recorded.
    pub(crate) device: Device,
    /// Its share of each batch.
    pub(crate) loader: WindowLoader,
}

/// The next step.
#[derive(Debug, Clone, Copy)]
struct Order {
    /// Steps before it.
    index: u64,
    /// The loss above which it is a spike.
    spike_limit: Option<f32>,
}

/// Learners on threads of their own. They stop when this is dropped.
pub(crate) struct Replicas(Vec<(Sender<Order>, JoinHandle<()>)>);

impl Replicas {
    /// Copies of a learner, each at its place.
    pub(crate) fn start(learner: &Learner<Trainee>, places: Vec<Place>, recipe: &Recipe) -> Self {
        let start = |place: Place| {
            let (sender, orders) = channel();
            let mut learner = learner.clone();
            learner.fork(&place.device);
            let recipe = recipe.clone();
            (sender, thread::spawn(move || follow(&orders, learner, &place, &recipe)))
        };
        Self(places.into_iter().map(start).collect())
    }

    /// Has all of them take a step.
    ///
    /// # Errors
    ///
    /// If one has stopped.
    pub(crate) fn step(&self, index: u64, spike_limit: Option<f32>) -> Result<(), Error> {
        for (sender, _) in &self.0 {
            sender.send(Order { index, spike_limit }).map_err(|_| Error::DeviceLeft)?;
        }
        Ok(())
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        for (sender, thread) in self.0.drain(..) {
            drop(sender);
            // A panic of the thread was printed already, and ended the training.
            let _ = thread.join();
        }
    }
}

/// Takes the steps that are ordered, until nobody can order more.
fn follow(orders: &Receiver<Order>, mut learner: Learner<Trainee>, place: &Place, recipe: &Recipe) {
    let mut batches = place.loader.iter();
    for Order { index, spike_limit } in orders {
        let Ok(gradient) = gradient(&mut learner, &mut *batches, recipe, index, &place.device, &place.seat)
        else {
            return; // The others are told as the seat is given up.
        };
        let factor = judge_on_device(&gradient.found, spike_limit, recipe.optimizer.grad_clip);
        gradient.descend(&mut learner, Scale::on_device(factor));
    }
}
