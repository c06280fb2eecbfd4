//! The interface of a process group: collectives, progress and failure.

use std::fmt;

use crate::{Call, Error, Parts, Pending, Precision, Reply};

/// One rank's membership in the group of all ranks that train one model.
///
/// Collectives involve every rank: all ranks start the same ones, with vectors of the same length and equal parts, in the
/// same order. Several may be in flight. They return the same bits on all ranks and in all implementations: contributions
/// are added in rank order.
///
/// A rank ends with [`finish`](Self::finish). Dropping it earlier, as an error or a panic does, fails all other ranks:
/// each of their collectives, also those that wait, returns [`Error::RankFailed`].
pub trait Group: Send + Sync + fmt::Debug {
    /// This rank, from 0.
    fn index(&self) -> usize;

    /// The host of each rank.
    fn hosts(&self) -> &[String];

    /// Starts a collective and returns without waiting. The methods below are shorthands.
    fn start(&self, call: Call) -> Pending;

    /// Reports progress of this rank. Heartbeats carry it, so that others can tell where this rank has failed. Calls prove
    /// that the rank is alive: long waits outside of collectives (a download) should repeat them.
    fn progress(&self, step: u64, phase: Phase);

    /// Fails all ranks. `message` continues the sentence "rank 3 on node7", such as "failed: disk full".
    fn fail(&self, message: &str);

    /// Waits until all ranks have finished, and leaves the group. Nothing else may be called after it.
    ///
    /// # Errors
    ///
    /// If another rank fails meanwhile.
    fn finish(&self) -> Result<(), Error>;

    /// The number of ranks.
    fn size(&self) -> usize {
        self.hosts().len()
    }

    /// Starts the mean of `values` over all ranks: a reduce and a gather with equal parts. With [`Precision::Bf16`], the
    /// mean is rounded too.
    fn start_mean(&self, values: Vec<f32>, precision: Precision) -> Pending {
        self.start(Call::Mean { values, precision })
    }

    /// Starts the mean of `values` over all ranks, of which each gets the elements that it owns, in the order of its ranges.
    ///
    /// # Panics
    ///
    /// If the parts are for another length or number of ranks.
    fn start_reduce(&self, values: Vec<f32>, parts: &Parts, precision: Precision) -> Pending {
        assert_eq!(
            (values.len(), self.size()),
            (parts.len(), parts.n_ranks()),
            "length and ranks of the parts"
        );
        self.start(Call::Reduce { values, parts: parts.clone(), precision })
    }

    /// Starts to collect the elements that each rank owns, in the order of its ranges, into the whole vector.
    ///
    /// # Panics
    ///
    /// If the parts are for another number of ranks, or this rank owns another number of elements.
    fn start_gather(&self, owned: Vec<f32>, parts: &Parts, precision: Precision) -> Pending {
        let expected = parts.packed(self.index()).len();
        assert_eq!(
            (owned.len(), self.size()),
            (expected, parts.n_ranks()),
            "owned elements and ranks of the parts"
        );
        self.start(Call::Gather { owned, parts: parts.clone(), precision })
    }

    /// The bytes of rank `root`; those of other ranks are ignored.
    ///
    /// # Errors
    ///
    /// If a rank fails.
    ///
    /// # Panics
    ///
    /// If there is no such rank.
    fn broadcast(&self, bytes: Vec<u8>, root: usize) -> Result<Vec<u8>, Error> {
        assert!(root < self.size(), "there is no rank {root} of {}", self.size());
        match self.start(Call::Broadcast { bytes, root }).reply()? {
            Reply::Bytes(bytes) => Ok(bytes),
            other => panic!("the reply is not one rank's bytes: {other:?}"),
        }
    }

    /// The bytes of all ranks, by rank.
    ///
    /// # Errors
    ///
    /// If a rank fails.
    ///
    /// # Panics
    ///
    /// Never; implementations reply with bytes.
    fn gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, Error> {
        match self.start(Call::GatherBytes(bytes)).reply()? {
            Reply::AllBytes(all) => Ok(all),
            other => panic!("the reply is not all ranks' bytes: {other:?}"),
        }
    }

    /// Waits until all ranks have called this.
    ///
    /// # Errors
    ///
    /// If a rank fails.
    fn barrier(&self) -> Result<(), Error> {
        self.gather(Vec::new()).map(drop)
    }
}

/// The part of a training that a rank is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    #[default]
    Preparing,
    Training,
    Evaluating,
    Sampling,
    Saving,
}

impl Phase {
    /// All phases, in the order of their discriminants.
    pub const ALL: [Self; 5] =
        [Self::Preparing, Self::Training, Self::Evaluating, Self::Sampling, Self::Saving];
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Preparing => "preparing",
            Self::Training => "training",
            Self::Evaluating => "evaluating",
            Self::Sampling => "sampling",
            Self::Saving => "saving",
        })
    }
}

/// The name of this machine.
pub(crate) fn host_name() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_listed_by_discriminant() {
        for (idx, phase) in Phase::ALL.into_iter().enumerate() {
            assert_eq!(phase as usize, idx, "{phase}");
        }
    }
}
