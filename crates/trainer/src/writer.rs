//! The run folder is written behind the back of training.
//!
//! A thread of its own makes bytes of weights and optimizer state, adds them up, and waits for the disk. What it holds
//! are tensors as they were at the end of a step; the next step then leaves those alone and makes new ones. So nothing
//! is torn, and training waits only if the write before has not ended.

use std::{
    fs::File,
    sync::mpsc::{Receiver, SyncSender, channel, sync_channel},
    thread::{self, JoinHandle},
};

use checkpoint::{Keep, RunFolder, RunLock, TrainerState};
use model::Gpt;

use crate::{Error, records::Parts};

/// What is to be written. Jobs are done in the order they come in: a checkpoint that names a best loss is on disk only
/// after the weights that have it.
enum Job {
    Weights(Box<Gpt>),
    Checkpoint(Box<TrainerState>),
}

/// Writes a run's weights and checkpoints.
pub(crate) struct Writer {
    /// None once it has been told to end.
    jobs: Option<SyncSender<Job>>,
    /// The step of each checkpoint on disk, or why there will be no more.
    saved: Receiver<Result<u64, Error>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// `parts` is where the records of a checkpoint arrive; `metrics`, which is flushed to disk before each checkpoint,
    /// so that no checkpoint is ahead of the metrics.
    pub(crate) fn start(
        (folder, lock): (RunFolder, RunLock),
        parts: Parts,
        metrics: File,
        keep: Keep,
    ) -> Self {
        // One job waits while one is done: the best weights, and a checkpoint after the same step.
        let (jobs, todo) = sync_channel(1);
        let (sender, saved) = channel();
        let work = move || {
            for job in todo {
                let held = folder.check_held(&lock).map_err(Error::from);
                let result = held.and_then(|()| match job {
                    Job::Weights(model) => Ok(folder.save_weights(&model).map(|()| None)?),
                    Job::Checkpoint(state) => {
                        save_checkpoint(&folder, &parts, &metrics, *state, keep).map(Some)
                    }
                });
                // Whatever has failed, a folder that went away meanwhile is why.
                let result =
                    result.map_err(|error| folder.check_held(&lock).map_or_else(Error::from, |()| error));
                let failed = result.is_err();
                if let Some(report) = result.transpose()
                    && (sender.send(report).is_err() || failed)
                {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("run folder".to_owned()).spawn(work);
        let thread = thread.expect("the system starts another thread");
        Self { jobs: Some(jobs), saved, thread: Some(thread) }
    }

    /// Has the weights written over the best ones so far.
    pub(crate) fn weights(&self, model: Gpt) {
        self.give(Job::Weights(Box::new(model)));
    }

    /// Has a checkpoint written, whose records are on their way.
    pub(crate) fn checkpoint(&self, state: TrainerState) {
        self.give(Job::Checkpoint(Box::new(state)));
    }

    fn give(&self, job: Job) {
        let jobs = self.jobs.as_ref().expect("jobs come before the end");
        let _ = jobs.send(job); // If the thread has stopped, `saved` says why.
    }

    /// The checkpoints that came to be on disk since the last call.
    ///
    /// # Errors
    ///
    /// If something could not be written; nothing will be from then on.
    pub(crate) fn saved(&self) -> Result<Vec<u64>, Error> {
        self.saved.try_iter().collect()
    }

    /// Waits for the next checkpoint to be on disk, and gives its step.
    ///
    /// # Errors
    ///
    /// As [`Writer::saved`].
    pub(crate) fn wait(&self) -> Result<u64, Error> {
        self.saved.recv().expect("a checkpoint has been asked for")
    }

    /// Waits until all is written.
    ///
    /// # Errors
    ///
    /// As [`Writer::saved`].
    pub(crate) fn finish(&mut self) -> Result<Vec<u64>, Error> {
        self.end();
        self.saved()
    }

    fn end(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("writing does not panic");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

fn save_checkpoint(
    folder: &RunFolder,
    parts: &Parts,
    metrics: &File,
    state: TrainerState,
    keep: Keep,
) -> Result<u64, Error> {
    let step = state.step;
    let checkpoint = parts.collect(state)?;
    metrics.sync_data().map_err(|source| Error::Metrics { path: folder.metrics_path(), source })?;
    folder.save_checkpoint(&checkpoint, keep)?;
    Ok(step)
}
