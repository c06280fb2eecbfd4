//! Writes checkpoints and the best weights in the background.
//!
//! One thread streams weights, optimizer state and trainer state to the run folder, with one tensor in memory at a
//! time. It holds tensor handles from the end of a step. The next step creates new tensors and leaves these unchanged,
//! so a file never mixes two steps. Training waits only if the previous write has not finished.

use std::{
    cell::Cell,
    fs::File,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use checkpoint::{Keep, Records, RunFolder, RunLock, TrainerState};
use model::Gpt;
use ranks::{Group, Phase};

use crate::Error;

/// How often a rank that waits for a slow disk reports that it is alive. Other ranks wait for it meanwhile.
const ALIVE_INTERVAL: Duration = Duration::from_millis(200);

/// How often a full queue is tried again.
const QUEUE_POLL: Duration = Duration::from_millis(10);

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
    group: Arc<dyn Group>,
    /// The step of the last checkpoint that was queued.
    step: Cell<u64>,
}

impl Writer {
    /// Starts the thread. `metrics` is flushed to disk before each checkpoint, so that no checkpoint is ahead of the
    /// metrics.
    pub(crate) fn start(
        (folder, lock): (RunFolder, RunLock),
        metrics: File,
        keep: Keep,
        group: Arc<dyn Group>,
    ) -> Self {
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
        Self { jobs: Some(jobs), saved, thread: Some(thread), group, step: Cell::new(0) }
    }

    /// A writer that writes nothing, for ranks that have no run folder.
    pub(crate) fn idle(group: Arc<dyn Group>) -> Self {
        let (_, saved) = channel();
        Self { jobs: None, saved, thread: None, group, step: Cell::new(0) }
    }

    /// Queues weights that replace the best ones so far.
    pub(crate) fn weights(&self, model: Gpt) {
        self.queue(Job::Weights(Box::new(model)));
    }

    /// Queues a checkpoint.
    pub(crate) fn checkpoint(&self, records: Records, state: TrainerState) {
        self.step.set(state.step);
        self.queue(Job::Checkpoint(Box::new((records, state))));
    }

    /// Waits while a job is waiting already.
    fn queue(&self, mut job: Job) {
        let Some(jobs) = &self.jobs else { return };
        // If the thread has stopped, `saved` has the error.
        while let Err(TrySendError::Full(rejected)) = jobs.try_send(job) {
            job = rejected;
            self.report_alive();
            thread::sleep(QUEUE_POLL);
        }
    }

    fn report_alive(&self) {
        self.group.progress(self.step.get(), Phase::Saving);
    }

    /// The next report of the thread; `None` if it has ended.
    fn next_saved(&self) -> Option<Result<u64, Error>> {
        loop {
            match self.saved.recv_timeout(ALIVE_INTERVAL) {
                Ok(saved) => return Some(saved),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.report_alive(),
            }
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
        self.jobs.as_ref().map(|_| self.next_saved().expect("a checkpoint was queued")).transpose()
    }

    /// Waits until all files are written.
    ///
    /// # Errors
    ///
    /// As [`Writer::saved`].
    pub(crate) fn finish(&mut self) -> Result<Vec<u64>, Error> {
        self.jobs = None;
        let saved = std::iter::from_fn(|| self.next_saved()).collect();
        self.end();
        saved
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Sender;

    use model::GptConfig;
    use ranks::{Call, Pending};

    use super::*;

    /// A rank that passes its reports on.
    #[derive(Debug)]
    struct Reports(Sender<(u64, Phase)>);

    impl Group for Reports {
        fn index(&self) -> usize {
            0
        }

        fn hosts(&self) -> &[String] {
            &[]
        }

        fn start(&self, call: Call) -> Pending {
            panic!("a writer exchanges nothing: {call:?}")
        }

        fn progress(&self, step: u64, phase: Phase) {
            let _ = self.0.send((step, phase)); // The test may have ended.
        }

        fn fail(&self, _: &str) {}

        fn finish(&self) -> Result<(), ranks::Error> {
            Ok(())
        }
    }

    #[test]
    fn a_rank_that_waits_for_a_slow_disk_reports_that_it_is_alive() {
        let (reports, reported) = channel();
        let (jobs, todo) = sync_channel(1);
        let (done, saved) = channel();
        let group = Arc::new(Reports(reports));
        let mut writer = Writer { jobs: Some(jobs), saved, thread: None, group, step: Cell::new(7) };
        let gpt = GptConfig::debug().zeros(&kernels::testing::test_device()).unwrap();
        let disk = thread::spawn(move || {
            let alive = (7, Phase::Saving);
            assert_eq!(reported.recv().unwrap(), alive, "the queue is full");
            todo.recv().unwrap();
            todo.recv().unwrap();
            while reported.try_recv().is_ok() {}
            assert_eq!([reported.recv().unwrap(), reported.recv().unwrap()], [alive; 2], "in `wait`");
            done.send(Ok(7)).unwrap();
            while reported.try_recv().is_ok() {}
            assert_eq!(reported.recv().unwrap(), alive, "in `finish`");
            done.send(Ok(8)).unwrap();
        });
        writer.weights(gpt.clone());
        writer.weights(gpt);
        assert_eq!(writer.wait().unwrap(), Some(7));
        assert_eq!(writer.finish().unwrap(), [8]);
        disk.join().unwrap();
    }
}
