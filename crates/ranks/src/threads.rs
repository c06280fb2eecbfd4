//! Ranks that are threads of one process.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use crate::{
    Call, Error, Group, Parts, Pending, Phase, Precision, Reply,
    call::ReplySender,
    group::host_name,
    wire::{Wire, mean},
};

/// A rank that is a thread of this process. The rank that starts a collective last carries it out for all.
#[derive(Debug)]
pub struct Threads {
    index: usize,
    exchange: Arc<Exchange>,
}

#[derive(Debug)]
struct Exchange {
    hosts: Vec<String>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Collectives that some ranks have not started yet, oldest first.
    rounds: VecDeque<Vec<Option<(Call, ReplySender)>>>,
    /// How many collectives all ranks have started.
    n_complete: usize,
    /// How many collectives each rank has started.
    n_started: Vec<usize>,
    failure: Option<Error>,
}

impl Threads {
    /// The ranks of a new group.
    pub fn group(n_ranks: usize) -> Vec<Self> {
        let state = State { n_started: vec![0; n_ranks], ..State::default() };
        let exchange = Arc::new(Exchange { hosts: vec![host_name(); n_ranks], state: Mutex::new(state) });
        (0..n_ranks).map(|index| Self { index, exchange: exchange.clone() }).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.exchange.state.lock().expect("no holder of the lock panics")
    }
}

impl Group for Threads {
    fn index(&self) -> usize {
        self.index
    }

    fn hosts(&self) -> &[String] {
        &self.exchange.hosts
    }

    fn start(&self, call: Call) -> Pending {
        let (sender, pending) = Pending::new();
        let mut state = self.lock();
        if let Some(failure) = &state.failure {
            return Pending::ready(Err(failure.clone()));
        }
        let round = state.n_started[self.index] - state.n_complete;
        state.n_started[self.index] += 1;
        if round == state.rounds.len() {
            state.rounds.push_back((0..self.size()).map(|_| None).collect());
        }
        state.rounds[round][self.index] = Some((call, sender));
        // Only the oldest can be complete, because each rank starts them in order.
        if state.rounds[0].iter().all(Option::is_some) {
            let round = state.rounds.pop_front().into_iter().flatten().flatten();
            state.n_complete += 1;
            drop(state);
            let (calls, senders): (Vec<_>, Vec<_>) = round.unzip();
            for (reply, sender) in carry_out(calls).into_iter().zip(senders) {
                let _ = sender.send(Ok(reply)); // A rank may drop its handle.
            }
        }
        pending
    }

    /// Ignored: threads of a process end together.
    fn progress(&self, _: u64, _: Phase) {}

    fn fail(&self, message: &str) {
        let mut state = self.lock();
        if state.failure.is_some() {
            return; // The first failure is the cause.
        }
        let host = self.exchange.hosts[self.index].clone();
        let failure = Error::RankFailed { rank: self.index, host, message: message.to_owned() };
        for (_, sender) in mem::take(&mut state.rounds).into_iter().flatten().flatten() {
            let _ = sender.send(Err(failure.clone())); // A rank may drop its handle.
        }
        state.failure = Some(failure);
    }

    fn finish(&self) -> Result<(), Error> {
        self.barrier()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.fail(ended_early());
    }
}

/// The message for a rank that is dropped: after [`Group::finish`] nobody reads it.
pub(crate) fn ended_early() -> &'static str {
    if thread::panicking() { "panicked" } else { "ended before the others" }
}

/// Carries out a collective: the reply for each rank's call.
///
/// # Panics
///
/// If the ranks have started different collectives.
pub(crate) fn carry_out(calls: Vec<Call>) -> Vec<Reply> {
    let n_ranks = calls.len();
    let rounding = |precision| if n_ranks == 1 { Precision::F32 } else { precision };
    match calls.first() {
        None => Vec::new(),
        Some(&Call::Mean { precision, .. }) => {
            let precision = rounding(precision);
            let wires = calls.into_iter().map(|call| match call {
                Call::Mean { values, .. } => Wire::encode(values, precision),
                other => mismatch("a mean", &other),
            });
            let mean = Wire::encode(mean_of(&wires.collect::<Vec<_>>()), precision).decode();
            vec![Reply::Values(mean); n_ranks]
        }
        Some(Call::Reduce { parts, precision, .. }) => {
            let (parts, precision) = (parts.clone(), rounding(*precision));
            let wires = calls.into_iter().map(|call| match call {
                Call::Reduce { values, parts: of, .. } if of == parts => {
                    Wire::encode(parts.pack(values), precision)
                }
                other => mismatch("a reduction with equal parts", &other),
            });
            let mean = mean_of(&wires.collect::<Vec<_>>());
            (0..n_ranks).map(|rank| Reply::Values(mean[parts.packed(rank)].to_vec())).collect()
        }
        Some(Call::Gather { parts, precision, .. }) => {
            let (parts, precision): (Parts, _) = (parts.clone(), rounding(*precision));
            let owned = calls.into_iter().flat_map(|call| match call {
                Call::Gather { owned, parts: of, .. } if of == parts => owned,
                other => mismatch("a gather with equal parts", &other),
            });
            let packed = Wire::encode(owned.collect(), precision).decode();
            vec![Reply::Values(parts.unpack(packed)); n_ranks]
        }
        Some(&Call::Broadcast { root, .. }) => {
            let mut all = calls.into_iter().map(|call| match call {
                Call::Broadcast { bytes, root: of } if of == root => bytes,
                other => mismatch("a broadcast from the same rank", &other),
            });
            let bytes = all.nth(root).expect("the root is a rank");
            all.for_each(drop); // Checks the later ranks.
            vec![Reply::Bytes(bytes); n_ranks]
        }
        Some(Call::GatherBytes(_)) => {
            let all = calls.into_iter().map(|call| match call {
                Call::GatherBytes(bytes) => bytes,
                other => mismatch("a gather of bytes", &other),
            });
            vec![Reply::AllBytes(all.collect()); n_ranks]
        }
    }
}

fn mean_of(wires: &[Wire]) -> Vec<f32> {
    let len = wires.first().map_or(0, Wire::len);
    assert!(wires.iter().all(|wire| wire.len() == len), "the vectors of the ranks differ in length");
    mean(wires.iter().map(|wire| (wire, 0..len)))
}

fn mismatch(expected: &str, other: &Call) -> ! {
    let other = match other {
        Call::Mean { .. } => "a mean",
        Call::Reduce { .. } => "a reduction",
        Call::Gather { .. } => "a gather",
        Call::Broadcast { .. } => "a broadcast",
        Call::GatherBytes(_) => "a gather of bytes",
    };
    panic!("ranks must start the same collectives: one started {expected}, another {other}")
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use proptest::prelude::*;

    use super::*;

    /// The results of `work` on each rank of a group, by rank.
    fn on_ranks<T: Send>(n_ranks: usize, work: impl Fn(&Threads) -> T + Sync) -> Vec<T> {
        let ranks = Threads::group(n_ranks);
        thread::scope(|scope| {
            let handles: Vec<_> = ranks.iter().map(|rank| scope.spawn(|| work(rank))).collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).collect()
        })
    }

    fn failed(rank: usize, message: &str) -> Error {
        Error::RankFailed { rank, host: host_name(), message: message.to_owned() }
    }

    #[test]
    fn all_ranks_get_the_mean_of_each_round() {
        on_ranks(3, |rank| {
            for round in 0..50u8 {
                let index = u8::try_from(rank.index()).unwrap();
                let mine = vec![f32::from(index), f32::from(index * round)];
                let mean = rank.start_mean(mine, Precision::F32).wait();
                assert_eq!(mean, Ok(vec![1.0, f32::from(round)]));
            }
        });
    }

    #[test]
    fn several_exchanges_may_be_in_flight() {
        on_ranks(3, |rank| {
            let buckets: Vec<_> =
                (0..5u8).map(|x| rank.start_mean(vec![f32::from(x)], Precision::F32)).collect();
            for (x, bucket) in buckets.into_iter().enumerate().rev() {
                assert_eq!(bucket.wait(), Ok(vec![f32::from(u8::try_from(x).unwrap())]));
            }
        });
    }

    #[test]
    fn bytes_are_broadcast_and_gathered() {
        on_ranks(3, |rank| {
            let mine = vec![7; rank.index()];
            assert_eq!(rank.gather(mine.clone()), Ok(vec![vec![], vec![7], vec![7, 7]]));
            assert_eq!(rank.broadcast(mine, 2), Ok(vec![7, 7]));
            rank.barrier().unwrap();
        });
    }

    proptest! {
        #[test]
        fn a_reduction_and_a_gather_are_the_mean(
            lens in prop::collection::vec(0usize..6, 4),
            values in prop::collection::vec(prop::collection::vec(-1e3f32..1e3, 20), 2),
        ) {
            // Rank 0 owns ranges 3 and 1, rank 1 the others: uneven, interleaved and perhaps empty.
            let bounds: Vec<usize> = lens.iter().scan(0, |end, len| { *end += len; Some(*end) }).collect();
            let range = |idx: usize| if idx == 0 { 0..bounds[0] } else { bounds[idx - 1]..bounds[idx] };
            let parts = Parts::new(bounds[3], vec![vec![range(3), range(1)], vec![range(0), range(2)]]);
            let results = on_ranks(2, |rank| {
                let mine = values[rank.index()][..parts.len()].to_vec();
                let owned = rank.start_reduce(mine.clone(), &parts, Precision::F32).wait().unwrap();
                let gathered = rank.start_gather(owned, &parts, Precision::F32).wait().unwrap();
                (gathered, rank.start_mean(mine, Precision::F32).wait().unwrap())
            });
            for (gathered, mean) in &results {
                prop_assert_eq!(gathered, mean);
                prop_assert_eq!(mean, &results[0].1);
            }
        }
    }

    #[test]
    fn bf16_contributions_and_means_are_rounded_and_sums_are_not() {
        let results = on_ranks(2, |rank| {
            let mine = vec![[256.0, 257.0][rank.index()], 1.0];
            let owned = rank.start_reduce(mine.clone(), &Parts::equal(2, 2), Precision::Bf16).wait().unwrap();
            (owned, rank.start_mean(vec![[256.0, 1.0][rank.index()]], Precision::Bf16).wait().unwrap())
        });
        // 257 is sent as 256. The mean of 256 and 1 is 128.5, of which bf16 keeps 128.
        assert_eq!(results, [(vec![256.0], vec![128.0]), (vec![1.0], vec![128.0])]);
    }

    #[test]
    fn a_waiting_rank_fails_when_another_is_dropped() {
        let mut ranks = Threads::group(2);
        let (one, other) = (ranks.remove(0), ranks.remove(0));
        let pending = one.start_mean(vec![1.0], Precision::F32);
        thread::scope(|scope| {
            scope.spawn(move || drop(other));
        });
        assert_eq!(pending.wait(), Err(failed(1, "ended before the others")));
        assert_eq!(one.barrier(), Err(failed(1, "ended before the others")));
    }

    #[test]
    fn others_get_the_message_of_a_rank_that_fails() {
        let ranks = Threads::group(2);
        ranks[1].fail("failed: disk full");
        ranks[0].fail("failed: a consequence");
        let error = ranks[0].barrier().unwrap_err();
        assert_eq!(error, failed(1, "failed: disk full"));
        assert_eq!(error.to_string(), format!("rank 1 on {} failed: disk full", host_name()));
    }

    #[test]
    fn a_panic_fails_the_others() {
        let mut ranks = Threads::group(2);
        let (one, other) = (ranks.remove(0), ranks.remove(0));
        let panicked = catch_unwind(AssertUnwindSafe(move || {
            let _rank = other;
            panic!("expected by the test");
        }));
        assert!(panicked.is_err());
        assert_eq!(one.barrier(), Err(failed(1, "panicked")));
    }

    #[test]
    fn ranks_finish_together() {
        let ranks = Threads::group(3);
        thread::scope(|scope| {
            for rank in ranks {
                scope.spawn(move || rank.finish().unwrap());
            }
        });
    }

    #[test]
    #[should_panic(expected = "one started a mean, another a gather of bytes")]
    fn different_collectives_are_a_mistake_of_the_caller() {
        let ranks = Threads::group(2);
        let _mean = ranks[0].start_mean(vec![1.0], Precision::F32);
        let _bytes = ranks[1].start(Call::GatherBytes(Vec::new()));
    }
}
