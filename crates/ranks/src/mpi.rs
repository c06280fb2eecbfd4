//! Ranks that are processes of an MPI job, perhaps on several machines.

mod communication;
mod exchange;
mod heartbeat;
mod library;

use std::{
    sync::{
        Arc, Mutex,
        mpsc::{Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{Call, Error, Group, Pending, Phase, threads::ended_early};
use communication::{Command, Job, serve};
use heartbeat::Progress;

/// How long a rank that ends early waits until the others have been told.
const TELL_TIMEOUT: Duration = Duration::from_secs(1);

/// A rank that is a process of an MPI job.
///
/// A thread makes every MPI call, and sleeps between them. Heartbeats between these threads find ranks that have died or
/// hang: the rank that notices it prints rank and host to standard error, and `MPI_Abort` ends the job. A rank hangs if
/// others wait for it while it uses no CPU time; a slow step does not count.
#[derive(Debug)]
pub struct Mpi {
    job: Job,
    progress: Arc<Progress>,
    commands: Sender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Mpi {
    /// Initialises MPI. A process can do this once.
    ///
    /// `timeout` limits how long another rank may be silent, or hang while others wait for it.
    ///
    /// # Errors
    ///
    /// If MPI is already initialised, or cannot exchange the names of the hosts. Without a launcher there is one rank.
    pub fn start(timeout: Duration) -> Result<Self, Error> {
        let (commands, receiver) = channel();
        let (started, job) = channel();
        let progress = Arc::new(Progress::default());
        let thread = thread::Builder::new().name("mpi".to_owned()).spawn({
            let progress = progress.clone();
            move || serve(&receiver, &progress, timeout, &started)
        });
        let thread = thread.map_err(|error| Error::Start(error.to_string()))?;
        let job = job.recv().map_err(|_| Error::Start("its thread has panicked".to_owned()))??;
        Ok(Self { job, progress, commands, thread: Mutex::new(Some(thread)) })
    }

    /// # Panics
    ///
    /// If the thread has panicked; it aborts the job before.
    fn send(&self, command: Command) {
        self.commands.send(command).expect("the thread of MPI ends last");
    }
}

impl Group for Mpi {
    fn index(&self) -> usize {
        self.job.index
    }

    fn hosts(&self) -> &[String] {
        &self.job.hosts
    }

    fn start(&self, call: Call) -> Pending {
        let (sender, pending) = Pending::new();
        self.send(Command::Start(call, sender));
        pending
    }

    fn progress(&self, step: u64, phase: Phase) {
        self.progress.set(step, phase);
    }

    fn fail(&self, message: &str) {
        let (told, others) = channel();
        self.send(Command::Fail(message.to_owned(), told));
        let _ = others.recv_timeout(TELL_TIMEOUT); // A rank that hangs can't be told; the job is aborted soon.
    }

    fn finish(&self) -> Result<(), Error> {
        self.barrier()?;
        let (left, is_left) = channel();
        self.send(Command::Leave(left));
        is_left.recv().expect("the thread of MPI replies or aborts")?;
        let thread = self.thread.lock().expect("no holder of the lock panics").take();
        thread.map_or(Ok(()), |thread| thread.join()).expect("a panic aborts the job");
        Ok(())
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        if self.thread.lock().is_ok_and(|thread| thread.is_some()) {
            self.fail(ended_early());
        }
    }
}
