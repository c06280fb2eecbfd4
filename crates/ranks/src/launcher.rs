//! Whether a launcher has started this process as one of several ranks.
//!
//! Needs no MPI: a build without the feature `mpi` uses it to refuse, instead of training the same model several times.

/// The launcher of this process, from environment variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    pub name: &'static str,
    /// The number of ranks. PMIx alone does not pass it through the environment.
    pub size: Option<usize>,
    pub rank: Option<usize>,
}

/// Environment variables of a launcher: the name, the number of ranks, and the rank.
const LAUNCHERS: [(&str, &str, &str); 4] = [
    ("mpirun (Open MPI)", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("srun (Slurm)", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
    ("mpirun (PMI)", "PMI_SIZE", "PMI_RANK"),
    ("a PMIx launcher", "PMIX_SIZE", "PMIX_RANK"),
];

impl Launcher {
    /// Whether there may be other ranks.
    pub fn has_several_ranks(&self) -> bool {
        self.size.is_none_or(|size| size > 1)
    }
}

/// The launcher that has started this process; `None` without one. `lookup` returns environment variables.
///
/// ```
/// let launcher = ranks::launcher::detect(|name| std::env::var(name).ok());
/// assert!(launcher.is_none());
/// ```
pub fn detect(lookup: impl Fn(&str) -> Option<String>) -> Option<Launcher> {
    let number = |name: &str| lookup(name)?.trim().parse().ok();
    LAUNCHERS.iter().find_map(|&(name, size, rank)| {
        let is_pmix = size == "PMIX_SIZE";
        let (size, rank) = (number(size), number(rank));
        // Batch scripts have SLURM_PROCID too, and are not ranks.
        let is_seen = size.is_some() || (is_pmix && rank.is_some());
        is_seen.then_some(Launcher { name, size, rank })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect_in(variables: &[(&str, &str)]) -> Option<(&'static str, Option<usize>, Option<usize>)> {
        let lookup =
            |name: &str| variables.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned());
        detect(lookup).map(|it| (it.name, it.size, it.rank))
    }

    #[test]
    fn each_launcher_is_recognised() {
        for (variables, expected) in [
            (
                &[("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_RANK", "3"), ("PMIX_RANK", "3")][..],
                ("mpirun (Open MPI)", Some(4), Some(3)),
            ),
            (
                &[("SLURM_STEP_NUM_TASKS", "8"), ("SLURM_PROCID", "0"), ("PMI_SIZE", "8"), ("PMI_RANK", "0")],
                ("srun (Slurm)", Some(8), Some(0)),
            ),
            (&[("PMI_SIZE", "2"), ("PMI_RANK", "1")], ("mpirun (PMI)", Some(2), Some(1))),
            (&[("PMIX_RANK", "1")], ("a PMIx launcher", None, Some(1))),
        ] {
            assert_eq!(detect_in(variables), Some(expected), "{variables:?}");
        }
    }

    #[test]
    fn a_shell_and_a_batch_script_have_no_launcher() {
        for variables in
            [&[][..], &[("SLURM_NTASKS", "8"), ("SLURM_PROCID", "0")], &[("OMPI_COMM_WORLD_SIZE", "")]]
        {
            assert_eq!(detect_in(variables), None, "{variables:?}");
        }
    }

    #[test]
    fn one_task_is_not_several() {
        let launcher = |size| Launcher { name: "srun (Slurm)", size, rank: Some(0) };
        assert!(!launcher(Some(1)).has_several_ranks());
        assert!(launcher(Some(2)).has_several_ranks());
        assert!(launcher(None).has_several_ranks());
    }
}
