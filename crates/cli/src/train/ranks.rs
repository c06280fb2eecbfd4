//! The processes that train together, started by a launcher such as `mpirun` or `srun`.
//!
//! Only rank 0 owns the run folder and prints. The other ranks run the same code in a temporary folder.

use std::{
    collections::BTreeSet, env, fs, num::NonZeroUsize, path::PathBuf, process::ExitCode, sync::Arc, thread,
    time::Duration,
};

use anyhow::Context;
use console::{Diversion, divert, report, set_quiet, warn};
use dataset::{OnProgress, Progress};
use journal::summary::plural;
use ranks::{
    Alone, Error, Group, Phase,
    launcher::{self, Launcher},
};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use trainer::{OptimizerRecipe, Recipe};

#[cfg(not(feature = "mpi"))]
use crate::usage::bail_usage;
use crate::{memory::RankCounts, usage::exit_code};

/// How long another rank may be silent, unless `--rank-timeout` sets it.
pub(crate) const RANK_TIMEOUT_SECONDS: u64 = 30;

/// The group of ranks that this process belongs to.
pub(crate) struct Ranks {
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
    pub(crate) fn start(timeout: Duration) -> anyhow::Result<Self> {
        let alone = || Self { group: Arc::new(Alone::new()), other: None };
        let Some(launcher) = launcher::detect(|name| env::var(name).ok()) else { return Ok(alone()) };
        if !launcher.has_several_ranks() {
            warn_of_binding(&[Cores::of_this_process(&launcher)], &[host_of(&Alone::new())]);
            return Ok(alone());
        }
        let group = join(&launcher, timeout)?;
        let other = if group.index() == 0 {
            None
        } else {
            set_quiet();
            let scratch = tempfile::Builder::new().prefix("kindling-rank-").tempdir();
            let scratch = scratch.context("cannot make a temporary folder")?;
            Some(OtherRank { scratch, _silence: divert(|_| ()) })
        };
        share_cores(&*group, &launcher)?;
        Ok(Self { group, other })
    }

    pub(crate) fn group(&self) -> &Arc<dyn Group> {
        &self.group
    }

    pub(crate) fn are_several(&self) -> bool {
        self.group.size() > 1
    }

    /// The index of this rank among those on its host.
    pub(crate) fn local_index(&self) -> usize {
        let (hosts, index) = (self.group.hosts(), self.group.index());
        hosts[..index].iter().filter(|host| **host == hosts[index]).count()
    }

    /// All ranks, and those on the host of this one.
    pub(crate) fn counts(&self) -> RankCounts {
        let (hosts, index) = (self.group.hosts(), self.group.index());
        let on_host = hosts.iter().filter(|host| **host == hosts[index]).count();
        RankCounts { on_host, all: hosts.len() }
    }

    /// The recipe with the share of each batch that one rank gets, for an estimate of its memory.
    pub(super) fn recipe_of_one(&self, recipe: &Recipe) -> Recipe {
        let batch_size = recipe.optimizer.batch_size.get() / self.group.size();
        let batch_size = NonZeroUsize::new(batch_size).unwrap_or(NonZeroUsize::MIN);
        Recipe { optimizer: OptimizerRecipe { batch_size, ..recipe.optimizer.clone() }, ..recipe.clone() }
    }

    /// The run folder of a rank other than 0; `None` on rank 0.
    pub(crate) fn scratch_run(&self) -> Option<PathBuf> {
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
    pub(crate) fn end(self, result: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
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
        let of_ranks = match error.downcast_ref::<trainer::Error>() {
            Some(trainer::Error::Ranks(of_ranks)) => Some(of_ranks),
            _ => error.downcast_ref::<Error>(),
        };
        match of_ranks.filter(|error| error.is_shared()) {
            Some(shared) => end_by_shared(&*group, shared, is_root),
            None => {
                // Printed first: the launcher kills this process soon after the others have ended.
                let text = format!("failed: {error:#}");
                let rank = format!("rank {} on {}", group.index(), group.hosts()[group.index()]);
                console::error(&if is_root { error } else { error.context(rank) });
                group.fail(&text);
            }
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

/// The cores that a process may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Cores {
    /// As Linux lists them, such as `0-3,8`; empty elsewhere.
    list: String,
    /// The number of cores of the launcher, from which it has chosen these. `None` if it does not choose, or is not known.
    n_of_launcher: Option<usize>,
}

impl Cores {
    /// Open MPI's launcher is the parent process. That of Slurm binds tasks to the cores of their job.
    fn of_this_process(launcher: &Launcher) -> Self {
        let list = |process: &str| status(process, "Cpus_allowed_list").unwrap_or_default();
        let parent = status("self", "PPid").filter(|_| launcher.name.contains("Open MPI"));
        let is_set = env::var_os(THREADS).is_some();
        let n_of_launcher = parent.filter(|_| !is_set).and_then(|parent| n_cores(&list(&parent)));
        Self { list: list("self"), n_of_launcher }
    }
}

/// Divides the cores among the ranks that may use the same ones, unless the user has set the number of threads. Warns if
/// there are more threads than cores, or if the launcher leaves cores idle.
fn share_cores(group: &dyn Group, launcher: &Launcher) -> anyhow::Result<()> {
    let n_cores = thread::available_parallelism().map_or(1, usize::from);
    let own = Cores::of_this_process(launcher);
    let all = group.gather(serde_json::to_vec(&own)?)?;
    let all: Vec<Cores> = all.iter().map(|cores| serde_json::from_slice(cores)).collect::<Result<_, _>>()?;
    let host = host_of(group);
    let n_sharing =
        all.iter().zip(group.hosts()).filter(|(cores, of)| **of == host && cores.list == own.list).count();
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
    warn_of_binding(&all, group.hosts());
    Ok(())
}

/// Warns if a launcher has bound ranks to fewer cores than their share. Only rank 0 prints it.
fn warn_of_binding(ranks: &[Cores], hosts: &[String]) {
    if let Some(text) = binding_problem(ranks, hosts) {
        warn(format_args!("{text}"));
    }
}

/// The first rank with fewer cores than its share of its host's, in a sentence.
fn binding_problem(ranks: &[Cores], hosts: &[String]) -> Option<String> {
    ranks.iter().zip(hosts).enumerate().find_map(|(rank, (cores, host))| {
        let n_all = cores.n_of_launcher?;
        let n_own = n_cores(&cores.list)?;
        let n_ranks = hosts.iter().filter(|of| *of == host).count();
        let share = n_all / n_ranks;
        (n_own < share).then(|| {
            format!(
                "mpirun has bound rank {rank} on {host} to {}, but {} could be shared by {} there; add --bind-to none \
                 to mpirun",
                plural(n_own, "core"),
                plural(n_all, "core"),
                plural(n_ranks, "rank"),
            )
        })
    })
}

fn host_of(group: &dyn Group) -> String {
    group.hosts()[group.index()].clone()
}

/// A field of Linux' status of a process, by its number or `self`.
fn status(process: &str, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

/// The number of cores in a list such as `0-3,8`; `None` for other text.
fn n_cores(list: &str) -> Option<usize> {
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let [first, last] = [first, last].map(|core| core.trim().parse::<usize>().ok());
        (last? + 1).checked_sub(first?)
    };
    list.split(',').map(range).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_counted() {
        for (list, n) in
            [("0", Some(1)), ("0-3,8", Some(5)), ("2-2, 4-7", Some(5)), ("", None), ("3-1", None)]
        {
            assert_eq!(n_cores(list), n, "{list}");
        }
        if cfg!(target_os = "linux") {
            assert!(n_cores(&status("self", "Cpus_allowed_list").unwrap()).unwrap() > 0);
        }
    }

    #[test]
    fn a_rank_with_fewer_cores_than_its_share_is_named() {
        let cores = |list: &str, n_of_launcher| Cores { list: list.to_owned(), n_of_launcher };
        let hosts = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let problem = |ranks: &[Cores], names: &[&str]| binding_problem(ranks, &hosts(names));

        // Eight cores for two ranks are four each.
        let bound = [cores("0-3", Some(8)), cores("4", Some(8))];
        assert_eq!(
            problem(&bound, &["a", "a"]).unwrap(),
            "mpirun has bound rank 1 on a to 1 core, but 8 cores could be shared by 2 ranks there; add --bind-to none \
             to mpirun"
        );
        assert!(problem(&bound, &["a", "b"]).unwrap().contains("rank 0 on a to 4 cores, but 8 cores"));
        let halves = [cores("0-3", Some(8)), cores("4-7", Some(8))];
        assert_eq!(problem(&halves, &["a", "a"]), None);
        // More ranks than cores, and launchers that are not known.
        assert_eq!(problem(&[cores("0", Some(1)), cores("0", Some(1))], &["a", "a"]), None);
        assert_eq!(problem(&[cores("0", None)], &["a"]), None);
        assert_eq!(problem(&[cores("", Some(8))], &["a"]), None);
    }
}
