//! The processes that train together, started by a launcher such as `mpirun` or `srun`.
//!
//! Only rank 0 owns the run folder and prints. The other ranks run the same code in a temporary folder.

use std::{
    collections::BTreeSet, env, fs, path::PathBuf, process::ExitCode, sync::Arc, thread, time::Duration,
};

use anyhow::Context;
use console::{Diversion, divert, report, set_quiet, warn};
use dataset::{OnProgress, Progress};
use journal::summary::plural;
use ranks::{
    Alone, Error, Group, Phase,
    launcher::{self, Launcher},
};
use tempfile::TempDir;

#[cfg(not(feature = "mpi"))]
use crate::usage::bail_usage;
use crate::usage::exit_code;

/// The group of ranks that this process belongs to.
pub(super) struct Ranks {
    group: Arc<dyn Group>,
    other: Option<OtherRank>,
}

/// A rank other than 0.
struct OtherRank {
    scratch: TempDir,
    /// Discards messages.
    _silence: Diversion,
}

impl Ranks {
    /// Joins the other processes, if a launcher has started several. They share the cores of their host.
    ///
    /// # Errors
    ///
    /// If this build can't train with others, or MPI does not start.
    pub(super) fn start(timeout: Duration) -> anyhow::Result<Self> {
        let launcher = launcher::detect(|name| env::var(name).ok()).filter(Launcher::has_several_ranks);
        let Some(launcher) = launcher else { return Ok(Self { group: Arc::new(Alone::new()), other: None }) };
        let group = join(&launcher, timeout)?;
        let other = if group.index() == 0 {
            None
        } else {
            set_quiet();
            let scratch = tempfile::Builder::new().prefix("kindling-rank-").tempdir();
            let scratch = scratch.context("cannot make a temporary folder")?;
            Some(OtherRank { scratch, _silence: divert(|_| ()) })
        };
        share_cores(&*group)?;
        Ok(Self { group, other })
    }

    pub(super) fn group(&self) -> &Arc<dyn Group> {
        &self.group
    }

    pub(super) fn are_several(&self) -> bool {
        self.group.size() > 1
    }

    /// The index of this rank among those on its host.
    pub(super) fn local_index(&self) -> usize {
        let (hosts, index) = (self.group.hosts(), self.group.index());
        hosts[..index].iter().filter(|host| **host == hosts[index]).count()
    }

    /// The run folder of a rank other than 0; `None` on rank 0.
    pub(super) fn scratch_run(&self) -> Option<PathBuf> {
        self.other.as_ref().map(|other| other.scratch.path().join("run"))
    }

    /// Shows progress, and reports that this rank is alive while it waits for a download.
    pub(super) fn progress(&self, show: OnProgress<'_>) -> impl Fn(Progress) + Sync {
        move |progress| {
            self.group.progress(0, Phase::Preparing);
            show(progress);
        }
    }

    /// Runs `work` on rank 0, and then on the others, which find the files that rank 0 has written.
    ///
    /// # Errors
    ///
    /// The error of `work`, or of another rank.
    pub(super) fn root_first<T>(&self, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        if self.other.is_some() {
            self.group.barrier()?;
        }
        let result = work()?;
        if self.other.is_none() {
            self.group.barrier()?;
        }
        Ok(result)
    }

    /// Leaves the group, or ends all ranks if this one has failed. Of several ranks, one prints an error that all have.
    ///
    /// # Errors
    ///
    /// `result`, of a process that trains alone.
    pub(super) fn end(self, result: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
        let Self { group, other } = self;
        if group.size() == 1 {
            return result;
        }
        let is_root = other.is_none();
        drop(other); // Errors are not discarded.
        let error = match result.and_then(|code| group.finish().map(|()| code).map_err(Into::into)) {
            Ok(code) => return Ok(code),
            Err(error) => error,
        };
        let code = exit_code(&error);
        match error.downcast_ref::<trainer::Error>() {
            Some(trainer::Error::Ranks(shared)) => end_by_shared(&*group, shared, is_root),
            _ => match error.downcast_ref::<Error>() {
                Some(shared) => end_by_shared(&*group, shared, is_root),
                None => {
                    // Printed first: the launcher kills this process soon after the others have ended.
                    let text = format!("failed: {error:#}");
                    let rank = format!("rank {} on {}", group.index(), group.hosts()[group.index()]);
                    console::error(&if is_root { error } else { error.context(rank) });
                    group.fail(&text);
                }
            },
        }
        Ok(code)
    }
}

/// Ends a rank by an error that other ranks have too.
fn end_by_shared(group: &dyn Group, error: &Error, is_root: bool) {
    if is_root {
        console::error(&anyhow::Error::new(error.clone()));
    }
    if let Error::Disagreement(_) = error {
        let _ = group.finish(); // So that rank 0 prints before any rank ends.
    }
}

#[cfg(feature = "mpi")]
fn join(launcher: &Launcher, timeout: Duration) -> anyhow::Result<Arc<dyn Group>> {
    let group = ranks::Mpi::start(timeout)?;
    if let Some(size) = launcher.size.filter(|size| *size != group.size()) {
        anyhow::bail!(
            "{} has started {size} ranks, but MPI sees {}; kindling was built with another MPI than the launcher's (with \
             Slurm, try srun --mpi=pmix)",
            launcher.name,
            plural(group.size(), "rank")
        );
    }
    Ok(Arc::new(group))
}

#[cfg(not(feature = "mpi"))]
fn join(launcher: &Launcher, _: Duration) -> anyhow::Result<Arc<dyn Group>> {
    let n_ranks = launcher.size.map_or_else(|| "several ranks".to_owned(), |size| plural(size, "rank"));
    bail_usage!(
        "{} has started {n_ranks}, and this build of kindling trains in one process; build it with: cargo build --release \
         -p cli --features mpi",
        launcher.name
    );
}

/// The environment variable that sets the number of compute threads.
const THREADS: &str = "RAYON_NUM_THREADS";

/// Divides the cores among the ranks that may use the same ones, unless the user has set the number of threads. Warns if
/// there are more threads than cores.
fn share_cores(group: &dyn Group) -> anyhow::Result<()> {
    let n_cores = thread::available_parallelism().map_or(1, usize::from);
    let own = format!("{} {}", group.hosts()[group.index()], allowed_cores());
    let all = group.gather(own.clone().into_bytes())?;
    let n_sharing = all.iter().filter(|cores| **cores == own.as_bytes()).count();
    if env::var_os(THREADS).is_none() {
        let n_threads = (n_cores / n_sharing).max(1);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build_global();
        pool.context("cannot start compute threads")?;
    }
    let n_threads = rayon::current_num_threads();
    let hosts: BTreeSet<&String> = group.hosts().iter().collect();
    report(format_args!(
        "{} on {}, {} each",
        plural(group.size(), "rank"),
        plural(hosts.len(), "host"),
        plural(n_threads, "thread")
    ));
    if n_sharing * n_threads > n_cores {
        warn(format_args!(
            "{} with {} each share {}; start fewer ranks, or set {THREADS} lower",
            plural(n_sharing, "rank"),
            plural(n_threads, "thread"),
            plural(n_cores, "core")
        ));
    }
    Ok(())
}

/// The cores that this process may use, as Linux lists them: launchers may bind each rank to its own.
fn allowed_cores() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    cores.unwrap_or_default().trim().to_owned()
}
