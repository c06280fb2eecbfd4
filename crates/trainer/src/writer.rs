//! Checkpoints and best weights are written in the background.
//!
//! One thread streams weights, optimizer state and the trainer's state to the run folder, one tensor in memory at a time.
//! It holds handles of tensors as they were at the end of a step; the next step leaves those alone and makes new ones. So
//! nothing is torn, and training waits only if the write before has not ended.

use std::{
    fs::File,
    sync::mpsc::{Receiver, SyncSender, channel, sync_channel},
    thread::{self, JoinHandle},
};

use checkpoint::{Keep, Records, RunFolder, RunLock, TrainerState};
use model::Gpt;

use crate::Error;

/// What is to be written. Jobs are done in the order they come in: a checkpoint that names a best loss is on disk only
/// after the weights that have it.
enum Job {
    Weights(Box<Gpt>),
    Checkpoint(Box<(Records, TrainerState)>),
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
    /// `metrics` is flushed to disk before each checkpoint, so that no checkpoint is ahead of the metrics.
    pub(crate) fn start((folder, lock): (RunFolder, RunLock), metrics: File, keep: Keep) -> Self {
        // One job waits while one is done: the best weights, and a checkpoint after the same step.
        let (jobs, todo) = sync_channel(1);
        let (sender, saved) = channel();
        let work = move || {
            for job in todo {
                let held = folder.check_held(&lock).map_err(Error::from);
                let result = held.and_then(|()| match job {
                    Job::Weights(model) => Ok(folder.save_weights(&model).map(|()| None)?),
                    Job::Checkpoint(checkpoint) => {
                        let (records, state) = *checkpoint;
                        save_checkpoint(&folder, records, &state, &metrics, keep).map(Some)
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

    /// Has a checkpoint written.
    pub(crate) fn checkpoint(&self, records: Records, state: TrainerState) {
        self.give(Job::Checkpoint(Box::new((records, state))));
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
    records: Records,
    state: &TrainerState,
    metrics: &File,
    keep: Keep,
) -> Result<u64, Error> {
    metrics.sync_data().map_err(|source| Error::Metrics { path: folder.metrics_path(), source })?;
    folder.save_checkpoint(records, state, keep)?;
    Ok(state.step)
}
