//! A collective in progress: one or two operations of MPI.

use std::ops::Range;

use super::library::{Buffer, Communicator, Failed, Operation};
use crate::{
    Call, Parts, Precision, Reply,
    wire::{Wire, mean},
};

/// The two communicators of collectives. MPI pairs operations by their order on a communicator, so all ranks start first
/// operations in the order of the calls on one, and second operations in the order of the calls on the other.
pub(super) struct Communicators {
    pub(super) first: Communicator,
    pub(super) second: Communicator,
    pub(super) index: usize,
    pub(super) size: usize,
}

pub(super) struct Exchange {
    next: Next,
    operation: Operation,
}

/// The step that follows when the operation is complete.
enum Next {
    /// A gather of the mean of the owned elements.
    Mean { parts: Parts },
    /// A broadcast, as the length is known.
    Broadcast { bytes: Vec<u8>, root: usize },
    /// A gather, as the lengths are known.
    GatherBytes { bytes: Vec<u8> },
    /// The reply: the mean of the owned elements.
    Owned { parts: Parts },
    /// The reply: the elements in their own order.
    Values { parts: Parts },
    /// The reply: the bytes.
    Bytes,
    /// The reply: the bytes of each rank.
    AllBytes { ranges: Vec<Range<usize>> },
}

/// MPI counts in C's `int`.
const LEN_MAX: usize = i32::MAX as usize;

/// The number of elements that the call exchanges, if MPI can't count them.
/// All ranks refuse alike: none starts an operation that another refuses.
pub(super) fn excess_len(call: &Call, n_ranks: usize) -> Option<usize> {
    let len = match call {
        Call::Mean { values, .. } => values.len() + n_ranks, // Parts may differ by one element.
        Call::Reduce { parts, .. } => parts.len().max(parts.largest() * n_ranks),
        Call::Gather { parts, .. } => parts.len(),
        Call::Broadcast { bytes, .. } | Call::GatherBytes(bytes) => bytes.len(),
    };
    (len > LEN_MAX).then_some(len)
}

/// The number of elements or bytes that this rank receives first, or broadcasts.
pub(super) fn received_len(call: &Call, index: usize) -> usize {
    match call {
        Call::Mean { values, .. } => values.len(),
        Call::Reduce { parts, .. } => parts.packed(index).len() * parts.n_ranks(),
        Call::Gather { parts, .. } => parts.len(),
        Call::Broadcast { bytes, .. } | Call::GatherBytes(bytes) => bytes.len(),
    }
}

impl Exchange {
    pub(super) fn start(call: Call, with: &Communicators) -> Result<Self, Failed> {
        let &Communicators { ref first, index, size, .. } = with;
        let rounding = |precision| if size == 1 { Precision::F32 } else { precision };
        let reduce = |values, parts: &Parts, precision| {
            let send = Wire::encode(parts.pack(values), precision);
            let receive = Wire::zeroed(size * parts.packed(index).len(), precision);
            first.all_to_all(send, &packed(parts), receive)
        };
        let (next, operation) = match call {
            Call::Mean { values, precision } => {
                let parts = Parts::equal(values.len(), size);
                let operation = reduce(values, &parts, rounding(precision))?;
                (Next::Mean { parts }, operation)
            }
            Call::Reduce { values, parts, precision } => {
                let operation = reduce(values, &parts, rounding(precision))?;
                (Next::Owned { parts }, operation)
            }
            Call::Gather { owned, parts, precision } => {
                let all = Wire::zeroed(parts.len(), rounding(precision));
                let operation = gather(owned, &parts, all, first)?;
                (Next::Values { parts }, operation)
            }
            Call::Broadcast { bytes, root } => {
                let len = Buffer::Lengths(vec![bytes.len() as u64]);
                (Next::Broadcast { bytes, root }, first.broadcast(len, root)?)
            }
            Call::GatherBytes(bytes) => {
                let len = Buffer::Lengths(vec![bytes.len() as u64]);
                let each: Vec<_> = (0..size).map(|rank| rank..rank + 1).collect();
                let operation = first.all_gather(len, Buffer::Lengths(vec![0; size]), &each)?;
                (Next::GatherBytes { bytes }, operation)
            }
        };
        Ok(Self { next, operation })
    }

    /// Whether a second operation is left to start.
    pub(super) fn has_second(&self) -> bool {
        matches!(self.next, Next::Mean { .. } | Next::Broadcast { .. } | Next::GatherBytes { .. })
    }

    pub(super) fn is_complete(&mut self) -> Result<bool, Failed> {
        self.operation.is_complete()
    }

    /// Starts the second operation when the first is complete.
    pub(super) fn start_second(self, with: &Communicators) -> Result<Self, Failed> {
        let Self { next, operation } = self;
        let &Communicators { ref second, index, size, .. } = with;
        let [sent, received] = operation.into_buffers();
        let (next, operation) = match (next, received, sent) {
            // The buffer that was sent has the length of the whole vector.
            (Next::Mean { parts }, Buffer::Wire(wire), Buffer::Wire(all)) => {
                let operation = gather(mean_of(&wire, &parts, index), &parts, all, second)?;
                (Next::Values { parts }, operation)
            }
            (Next::Broadcast { mut bytes, root }, Buffer::Lengths(len), _) => {
                bytes.resize(length(len[0]), 0);
                (Next::Bytes, second.broadcast(Buffer::Bytes(bytes), root)?)
            }
            (Next::GatherBytes { bytes }, Buffer::Lengths(lens), _) => {
                let mut end = 0;
                let ranges = (0..size).map(|rank| {
                    let start = end;
                    end += length(lens[rank]);
                    start..end
                });
                let ranges: Vec<_> = ranges.collect();
                let operation =
                    second.all_gather(Buffer::Bytes(bytes), Buffer::Bytes(vec![0; end]), &ranges)?;
                (Next::AllBytes { ranges }, operation)
            }
            _ => unreachable!("there is no second operation, or it needs another buffer"),
        };
        Ok(Self { next, operation })
    }

    /// The reply when the last operation is complete.
    pub(super) fn into_reply(self, with: &Communicators) -> Reply {
        let [_, received] = self.operation.into_buffers();
        match (self.next, received) {
            (Next::Owned { parts }, Buffer::Wire(wire)) => Reply::Values(mean_of(&wire, &parts, with.index)),
            (Next::Values { parts }, Buffer::Wire(wire)) => Reply::Values(parts.unpack(wire.decode())),
            (Next::Bytes, Buffer::Bytes(bytes)) => Reply::Bytes(bytes),
            (Next::AllBytes { ranges }, Buffer::Bytes(bytes)) => {
                Reply::AllBytes(ranges.into_iter().map(|range| bytes[range].to_vec()).collect())
            }
            _ => unreachable!("there is a second operation, or the reply needs another buffer"),
        }
    }
}

/// The elements of each rank, in owner order.
fn packed(parts: &Parts) -> Vec<Range<usize>> {
    (0..parts.n_ranks()).map(|rank| parts.packed(rank)).collect()
}

/// Gathers into `all`, in its precision.
fn gather(owned: Vec<f32>, parts: &Parts, all: Wire, on: &Communicator) -> Result<Operation, Failed> {
    let send = Wire::encode(owned, all.precision());
    on.all_gather(Buffer::Wire(send), Buffer::Wire(all), &packed(parts))
}

/// The mean of the owned elements: `wire` has those of each rank.
fn mean_of(wire: &Wire, parts: &Parts, index: usize) -> Vec<f32> {
    let own = parts.packed(index).len();
    mean((0..parts.n_ranks()).map(|rank| (wire, rank * own..(rank + 1) * own)))
}

fn length(of_another_rank: u64) -> usize {
    usize::try_from(of_another_rank).expect("another rank has a buffer of this length")
}
