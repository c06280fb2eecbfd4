//! The loop of the engine thread.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc::Receiver},
    time::Instant,
};

use engine::{Load, Model, Request, RequestId, Scheduler, Totals};

use super::job::Job;
use crate::{error::ApiError, metrics::Metrics};

/// A command to the thread.
#[derive(Debug)]
pub(super) enum Command {
    Submit { model_idx: usize, requests: Vec<Request>, job: Job },
    Drain,
}

/// A model with the jobs that use it.
struct Engine<'a> {
    model_idx: usize,
    model: &'a Model,
    n_slots: usize,
    scheduler: Scheduler<'a>,
    /// Of earlier schedulers, which failed.
    before: Totals,
    /// In the order of their arrival.
    jobs: Vec<Job>,
    metrics: &'a Metrics,
}

/// Runs commands until their sender is dropped. New jobs start between two steps, and models take turns.
pub(super) fn run(models: &[Arc<Model>], n_slots: usize, commands: &Receiver<Command>, metrics: &Metrics) {
    let engine = |(model_idx, model)| Engine::new(model_idx, model, n_slots, metrics);
    let mut engines: Vec<Engine<'_>> = models.iter().map(AsRef::as_ref).enumerate().map(engine).collect();
    let mut is_draining = false;
    loop {
        let mut next = None;
        if engines.iter().all(|engine| engine.jobs.is_empty()) {
            next = match commands.recv() {
                Ok(command) => Some(command),
                Err(_) => return,
            };
        }
        for command in next.into_iter().chain(commands.try_iter()) {
            match command {
                Command::Submit { job, .. } if is_draining => job.fail(ApiError::shutting_down()),
                Command::Submit { model_idx, requests, job } => engines[model_idx].submit(requests, job),
                Command::Drain => {
                    is_draining = true;
                    engines.iter_mut().for_each(Engine::refuse_waiting);
                }
            }
        }
        for engine in &mut engines {
            engine.end_jobs(Instant::now());
            engine.step();
        }
    }
}

impl<'a> Engine<'a> {
    fn new(model_idx: usize, model: &'a Model, n_slots: usize, metrics: &'a Metrics) -> Self {
        let scheduler = Scheduler::new(&model.gpt, &model.tokenizer, n_slots);
        Self { model_idx, model, n_slots, scheduler, before: Totals::default(), jobs: Vec::new(), metrics }
    }

    /// Adds a job, or fails it if one of its requests is invalid.
    fn submit(&mut self, requests: Vec<Request>, mut job: Job) {
        for request in requests {
            match self.scheduler.submit(request) {
                Ok(id) => job.push_id(id),
                Err(error) => {
                    self.cancel(&job);
                    return job.fail(ApiError::invalid(error.to_string(), None));
                }
            }
        }
        self.jobs.push(job);
    }

    /// Ends the jobs of clients that have left, and of those that take too long.
    fn end_jobs(&mut self, now: Instant) {
        let ended: Vec<Job> =
            self.jobs.extract_if(.., |job| job.is_abandoned() || job.is_overdue(now)).collect();
        for job in ended {
            if job.is_abandoned() {
                self.cancel(&job);
            } else if job.waits() {
                self.cancel(&job);
                job.fail(ApiError::too_late());
            } else {
                self.interrupt(job);
            }
        }
    }

    /// Ends the samples of a job, which keep their text.
    fn interrupt(&mut self, mut job: Job) {
        for (request_idx, id) in job.ids().to_vec().into_iter().enumerate() {
            for (_, output) in self.scheduler.interrupt(id) {
                _ = job.pass_on(request_idx, output, self.metrics);
            }
        }
    }

    /// Fails the jobs that have no sample in a slot.
    fn refuse_waiting(&mut self) {
        let is_waiting = |job: &mut Job| !job.ids().iter().any(|&id| self.scheduler.has_slot(id));
        let waiting: Vec<Job> = self.jobs.extract_if(.., is_waiting).collect();
        for job in waiting {
            self.cancel(&job);
            job.fail(ApiError::shutting_down());
        }
    }

    /// Runs one step, and passes its outputs on. If it fails or panics, all jobs of the model fail, and the next ones
    /// find a new scheduler.
    fn step(&mut self) {
        if !self.jobs.is_empty() {
            let problem = match catch_unwind(AssertUnwindSafe(|| self.scheduler.step())) {
                Ok(Ok(outputs)) => {
                    outputs.into_iter().for_each(|(id, output)| self.pass_on(id, output));
                    None
                }
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("a step of the model panicked".to_owned()),
            };
            if let Some(problem) = problem {
                tracing::error!("{problem}; {} requests have failed", self.jobs.len());
                self.restart(&problem);
            }
        }
        let load = self.scheduler.load();
        self.metrics.observe_load(self.model_idx, Load { totals: self.before + load.totals, ..load });
    }

    fn pass_on(&mut self, id: RequestId, output: engine::Output) {
        let found = self.jobs.iter().enumerate().find_map(|(idx, job)| Some((idx, job.position(id)?)));
        let Some((job_idx, request_idx)) = found else {
            return; // Another request of the job has failed in this step.
        };
        if self.jobs[job_idx].pass_on(request_idx, output, self.metrics).is_break() {
            let ended = self.jobs.remove(job_idx);
            if ended.n_incomplete() > 0 {
                self.cancel(&ended);
            }
        }
    }

    fn cancel(&mut self, job: &Job) {
        job.ids().iter().for_each(|&id| self.scheduler.cancel(id));
    }

    fn restart(&mut self, problem: &str) {
        self.before = self.before + self.scheduler.load().totals;
        self.scheduler = Scheduler::new(&self.model.gpt, &self.model.tokenizer, self.n_slots);
        for job in self.jobs.drain(..) {
            job.fail(ApiError::internal(problem));
        }
    }
}
