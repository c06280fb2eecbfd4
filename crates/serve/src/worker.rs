//! The engine thread: runs the requests of all models.

mod engine_loop;
mod job;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread,
    time::Instant,
};

use engine::{Model, Output, Request};
use tokio::sync::{
    Semaphore, TryAcquireError,
    mpsc::{UnboundedReceiver, unbounded_channel},
};

use self::{engine_loop::Command, job::Job};
use crate::{error::ApiError, metrics::Metrics};

/// The results of a call: the index of a request, and an output of it. After an error or [`Output::Failed`] nothing
/// follows. Dropping the receiver cancels the requests. `max_tokens` bounds the number of results that wait in it.
pub(crate) type Outputs = UnboundedReceiver<Result<(usize, Output), ApiError>>;

/// The engine thread as requests see it. The thread ends when this is dropped and no request runs.
#[derive(Debug)]
pub(crate) struct Worker {
    commands: Sender<Command>,
    /// By model: a permit for each sample that may run or wait. Closed on shutdown.
    room: Vec<Arc<Semaphore>>,
    /// Samples of a model that may run or wait.
    capacity: usize,
}

impl Worker {
    /// Starts the thread. Each model runs at most `n_slots` samples at a time, and at most `queue` more wait.
    ///
    /// # Panics
    ///
    /// If the thread can't be started.
    pub(crate) fn start(models: Vec<Arc<Model>>, n_slots: usize, queue: usize, metrics: Metrics) -> Self {
        let capacity = n_slots.saturating_add(queue).min(Semaphore::MAX_PERMITS);
        let room = models.iter().map(|_| Arc::new(Semaphore::new(capacity))).collect();
        let (commands, receiver) = channel();
        let run = move || engine_loop::run(&models, n_slots, &receiver, &metrics);
        thread::Builder::new().name("engine".to_owned()).spawn(run).expect("the engine thread must start");
        Self { commands, room, capacity }
    }

    /// Submits the requests of one HTTP call: all of them, or none.
    ///
    /// When `deadline` passes, incomplete samples end with [`Interrupted`](sampler::StoppedBy::Interrupted). If one of
    /// them has no token yet, the call fails with 503 instead.
    ///
    /// # Errors
    ///
    /// 400 for more samples than the queue can hold, 429 if it is full, and 503 during shutdown.
    pub(crate) fn submit(
        &self,
        model_idx: usize,
        requests: Vec<Request>,
        deadline: Instant,
    ) -> Result<Outputs, ApiError> {
        let n_samples = requests.iter().map(|request| request.samples.end - request.samples.start).sum();
        let n_samples = self.check_size(n_samples)?;
        let room = self.room[model_idx].clone();
        let permit = room.try_acquire_many_owned(n_samples).map_err(|error| match error {
            TryAcquireError::NoPermits => ApiError::queue_full(),
            TryAcquireError::Closed => ApiError::shutting_down(),
        })?;
        let (sender, outputs) = unbounded_channel();
        let job = Job::new(&requests, sender, deadline, permit);
        let command = Command::Submit { model_idx, requests, job };
        self.commands.send(command).map_err(|_| ApiError::internal("the engine thread has ended"))?;
        Ok(outputs)
    }

    /// Checks that a call of `n_samples` samples can ever be admitted.
    ///
    /// # Errors
    ///
    /// 400.
    pub(crate) fn check_size(&self, n_samples: u64) -> Result<u32, ApiError> {
        let fits = |n: &u32| (*n as usize) <= self.capacity;
        u32::try_from(n_samples).ok().filter(fits).ok_or_else(|| {
            let capacity = self.capacity;
            let message = format!(
                "the request has {n_samples} samples (prompts × `n`), but this server takes at most {capacity} at a \
                 time; send fewer in each request"
            );
            ApiError::invalid(message, Some("n"))
        })
    }

    /// Begins the shutdown: requests that wait, and new ones, fail with 503. The running ones are completed.
    pub(crate) fn drain(&self) {
        self.room.iter().for_each(|room| room.close());
        // Without a thread there is nothing to drain.
        _ = self.commands.send(Command::Drain);
    }
}
