//! Counts the bytes that a rank sends.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ranks::{Call, Error, Group, Parts, Pending, Phase, Precision};

/// A rank that counts the elements and bytes that it sends to others in collectives.
#[derive(Debug)]
pub(crate) struct Counting {
    group: Arc<dyn Group>,
    bytes_sent: AtomicU64,
}

impl Counting {
    pub(crate) fn new(group: Arc<dyn Group>) -> Self {
        Self { group, bytes_sent: AtomicU64::new(0) }
    }

    /// So far.
    pub(crate) fn bytes_sent(&self) -> u64 {
        self.bytes_sent.load(Ordering::Relaxed)
    }

    /// The bytes that a collective sends from this rank: elements of others to their owners, and own ones to all others.
    fn bytes_of(&self, call: &Call) -> u64 {
        let n_others = self.group.size() as u64 - 1;
        let own = |parts: &Parts| -> usize { parts.owned(self.group.index()).iter().map(Range::len).sum() };
        let elements = |n: usize, precision: Precision| n as u64 * precision.size_bytes();
        match call {
            Call::Mean { values, precision } => {
                let own = own(&Parts::equal(values.len(), self.group.size()));
                elements(values.len() - own, *precision) + n_others * elements(own, *precision)
            }
            Call::Reduce { values, parts, precision } => elements(values.len() - own(parts), *precision),
            Call::Gather { owned, precision, .. } => n_others * elements(owned.len(), *precision),
            Call::Broadcast { bytes, root } if *root == self.group.index() => n_others * bytes.len() as u64,
            Call::Broadcast { .. } => 0,
            Call::GatherBytes(bytes) => n_others * bytes.len() as u64,
        }
    }
}

impl Group for Counting {
    fn index(&self) -> usize {
        self.group.index()
    }

    fn hosts(&self) -> &[String] {
        self.group.hosts()
    }

    fn start(&self, call: Call) -> Pending {
        self.bytes_sent.fetch_add(self.bytes_of(&call), Ordering::Relaxed);
        self.group.start(call)
    }

    fn progress(&self, step: u64, phase: Phase) {
        self.group.progress(step, phase);
    }

    fn fail(&self, message: &str) {
        self.group.fail(message);
    }

    fn finish(&self) -> Result<(), Error> {
        self.group.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use ranks::Threads;

    use super::*;

    #[test]
    fn each_element_is_sent_to_its_owner_and_from_it_to_all_others() {
        thread::scope(|scope| {
            for group in Threads::group(3) {
                scope.spawn(move || {
                    let group = Counting::new(Arc::new(group));
                    // Of nine elements, three belong to each rank: six are sent away, and three to two others.
                    let mean = group.start_mean(vec![1.0; 9], Precision::F32).wait().unwrap();
                    assert_eq!((mean, group.bytes_sent()), (vec![1.0; 9], 12 * 4));
                    let parts = Parts::equal(9, 3);
                    let owned = group.start_reduce(vec![1.0; 9], &parts, Precision::Bf16).wait().unwrap();
                    assert_eq!(group.bytes_sent(), 12 * 4 + 6 * 2);
                    group.start_gather(owned, &parts, Precision::Bf16).wait().unwrap();
                    assert_eq!(group.bytes_sent(), 12 * 4 + 12 * 2);
                    let before = group.bytes_sent();
                    group.broadcast(vec![0; 10], 1).unwrap();
                    assert_eq!(group.bytes_sent() - before, if group.index() == 1 { 20 } else { 0 });
                    group.finish().unwrap();
                });
            }
        });
    }
}
