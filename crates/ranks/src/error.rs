//! Errors of a process group.

/// Why the ranks cannot continue together. All ranks of the group have to end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("rank {rank} on {host} {message}")]
    RankFailed {
        rank: usize,
        host: String,
        /// A clause that continues the sentence: `failed: disk full`.
        message: String,
    },

    #[error("the ranks would train differently: {0}; start all ranks with the same program, recipe and data")]
    Disagreement(String),

    #[error("cannot start MPI: {0}")]
    Start(String),

    #[error("{call} failed on rank {rank} ({host}): {message}")]
    Mpi { call: &'static str, rank: usize, host: String, message: String },

    #[error("{len} elements are too many for one exchange; send at most 2147483647")]
    TooLong { len: usize },
}

impl Error {
    /// Whether the other ranks have this error too.
    pub fn is_shared(&self) -> bool {
        match self {
            Self::RankFailed { .. } | Self::Disagreement(_) | Self::Mpi { .. } => true,
            Self::Start(_) | Self::TooLong { .. } => false,
        }
    }
}
