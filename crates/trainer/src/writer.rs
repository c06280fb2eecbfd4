//! Writes checkpoints and the best weights in the background.
//!
//! One thread streams weights, optimizer state and trainer state to the run folder, with one tensor in memory at a
//! time. It holds tensor handles from the end of a step. The next step creates new tensors and leaves these unchanged,
//! so a file never mixes two steps. Training waits only if the previous write has not finished.

use std::{
    fs::File,
    sync::mpsc::{Receiver, SyncSender, channel, sync_channel},
    thread::{self, JoinHandle},
};

use checkpoint::{Keep, Records, RunFolder, RunLock, TrainerState};
use model::Gpt;

use crate::Error;

/// A file to write. Jobs run in order of arrival: a checkpoint with a best loss is on disk only after the weights with
/// that loss.
enum Job {
    Weights(Box<Gpt>),
    Checkpoint(Box<(Records, TrainerState)>),
}

/// The handle of the writer thread.
pub(crate) struct Writer {
    /// `None` once the thread has been told to end, and of an idle writer.
    jobs: Option<SyncSender<Job>>,
    /// The step of each checkpoint on disk, or the error that ended the thread.
    saved: Receiver<Result<u64, Error>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread. `metrics` is flushed to disk before each checkpoint, so that no checkpoint is ahead of the
    /// metrics.
    pub(crate) fn start((folder, lock): (RunFolder, RunLock), metrics: File, keep: Keep) -> Self {
        // One job may wait while one runs: the best weights and the checkpoint of the same step.
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
                // If the folder has disappeared meanwhile, that is the cause of the error.
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

    /// A writer that writes nothing, for ranks that have no run folder.
    pub(crate) fn idle() -> Self {
        let (_, saved) = channel();
        Self { jobs: None, saved, thread: None }
    }

    /// Queues weights that replace the best ones so far.
    pub(crate) fn weights(&self, model: Gpt) {
        self.queue(Job::Weights(Box::new(model)));
    }

    /// Queues a checkpoint.
    pub(crate) fn checkpoint(&self, records: Records, state: TrainerState) {
        self.queue(Job::Checkpoint(Box::new((records, state))));
    }

    fn queue(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job); // If the thread has stopped, `saved` has the error.
        }
    }

    /// The steps of the checkpoints written since the last call.
    ///
    /// # Errors
    ///
    /// If a file can't be written; the thread then ends.
    pub(crate) fn saved(&self) -> Result<Vec<u64>, Error> {
        self.saved.try_iter().collect()
    }

    /// Waits until the next checkpoint is on disk. Returns its step; `None` if nothing is written.
    ///
    /// # Errors
    ///
    /// As [`Writer::saved`].
    pub(crate) fn wait(&self) -> Result<Option<u64>, Error> {
        self.jobs.as_ref().map(|_| self.saved.recv().expect("a checkpoint was queued")).transpose()
    }

    /// Waits until all files are written.
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
