//! Process groups for data-parallel training: each device processes a share of every batch, and gradients are averaged.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard},
};

use burn::{
    prelude::*,
    tensor::distributed::{ReduceOperation, all_reduce},
};

/// One device of a process group.
#[derive(Debug)]
pub(crate) struct Rank {
    /// Rank in the group, from 0.
    pub(crate) index: usize,
    pub(crate) size: usize,
    mean: Mean,
}

/// How the mean over the devices is computed.
#[derive(Debug)]
enum Mean {
    Single,
    /// By collective operations between the devices.
    Collective(Vec<Device>),
    /// Through host memory.
    Host(ExchangeMember),
}

/// Another rank of the group has failed, so there is no mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RankFailed;

impl Rank {
    /// The rank of a device that trains alone.
    pub(crate) fn alone() -> Self {
        Self { index: 0, size: 1, mean: Mean::Single }
    }

    /// One rank for each device.
    pub(crate) fn group(devices: &[Device]) -> Vec<Self> {
        let size = devices.len();
        let exchange = Arc::new(Exchange::new(size));
        let mean = |rank| {
            if size == 1 {
                return Mean::Single;
            }
            // Collectives on a device listed twice would deadlock.
            let are_distinct = (1..size).all(|idx| !devices[..idx].contains(&devices[idx]));
            if are_distinct && devices.iter().all(kernels::has_collectives) {
                return Mean::Collective(devices.to_vec());
            }
            Mean::Host(ExchangeMember { rank, exchange: exchange.clone() })
        };
        (0..size).map(|index| Self { index, size, mean: mean(index) }).collect()
    }

    /// The mean of `x` over all ranks. Every rank must call this.
    ///
    /// # Errors
    ///
    /// If another rank has failed. Device collectives do not detect this and wait forever.
    pub(crate) fn all_reduce_mean(&self, x: Tensor<1>) -> Result<Tensor<1>, RankFailed> {
        match &self.mean {
            Mean::Single => Ok(x),
            Mean::Collective(devices) => Ok(all_reduce(x, ReduceOperation::Mean, devices.clone()).resolve()),
            Mean::Host(member) => {
                let device = x.device();
                let part = x.into_data().try_into_vec().expect("gradients are f32");
                let mean = member.exchange.mean(member.rank, part).ok_or(RankFailed)?;
                Ok(Tensor::from_data(TensorData::from(mean.as_slice()), &device))
            }
        }
    }
}

/// A rank's membership in the exchange. Dropping it closes the exchange for all ranks.
struct ExchangeMember {
    rank: usize,
    exchange: Arc<Exchange>,
}

impl Drop for ExchangeMember {
    fn drop(&mut self) {
        self.exchange.close();
    }
}

impl fmt::Debug for ExchangeMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExchangeMember").field("rank", &self.rank).finish_non_exhaustive()
    }
}

/// Collects a vector from each rank's thread and returns their mean to all.
struct Exchange {
    round: Mutex<Round>,
    changed: Condvar,
}

#[derive(Default)]
struct Round {
    parts: Vec<Option<Vec<f32>>>,
    /// Present when all parts have arrived, until each thread has taken it.
    mean: Option<Arc<Vec<f32>>>,
    n_taken: usize,
    /// Whether a thread has ended.
    is_closed: bool,
}

impl Exchange {
    fn new(size: usize) -> Self {
        let round = Round { parts: vec![None; size], ..Round::default() };
        Self { round: Mutex::new(round), changed: Condvar::new() }
    }

    /// The mean of the parts, added in rank order whatever their order of arrival; `None` if a thread has ended.
    fn mean(&self, rank: usize, part: Vec<f32>) -> Option<Arc<Vec<f32>>> {
        // Wait until all ranks have taken the mean of the last round.
        let mut round = self.wait_while(self.lock(), |round| round.mean.is_some());
        round.parts[rank] = Some(part);
        if round.parts.iter().all(Option::is_some) {
            let size = round.parts.len() as f32;
            let mut parts = round.parts.iter_mut().filter_map(Option::take);
            let mut sum = parts.next()?;
            for part in parts {
                for (sum, part) in sum.iter_mut().zip(part) {
                    *sum += part;
                }
            }
            for sum in &mut sum {
                *sum /= size;
            }
            round.mean = Some(Arc::new(sum));
            self.changed.notify_all();
        }
        round = self.wait_while(round, |round| round.mean.is_none());
        let mean = round.mean.clone()?;
        round.n_taken += 1;
        if round.n_taken == round.parts.len() {
            round.n_taken = 0;
            round.mean = None;
            self.changed.notify_all();
        }
        Some(mean)
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    fn wait_while<'a>(
        &self,
        round: MutexGuard<'a, Round>,
        condition: impl Fn(&Round) -> bool,
    ) -> MutexGuard<'a, Round> {
        self.changed
            .wait_while(round, |round| !round.is_closed && condition(round))
            .expect("no holder of the lock panics")
    }

    fn lock(&self) -> MutexGuard<'_, Round> {
        self.round.lock().expect("no holder of the lock panics")
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn all_ranks_get_the_mean_of_each_round() {
        let device = kernels::testing::test_device();
        let ranks = Rank::group(&vec![device.clone(); 3]);
        thread::scope(|scope| {
            for rank in ranks {
                let device = &device;
                scope.spawn(move || {
                    for round in 0..50 {
                        let mine = [rank.index as f32, (rank.index * round) as f32];
                        let mean = rank.all_reduce_mean(Tensor::from_floats(mine, device)).unwrap();
                        assert_eq!(mean.into_data(), TensorData::from([1.0, round as f32]));
                    }
                });
            }
        });
    }

    #[test]
    fn a_waiting_rank_fails_when_another_is_dropped() {
        let device = kernels::testing::test_device();
        let mut ranks = Rank::group(&vec![device.clone(); 2]);
        let (one, other) = (ranks.remove(0), ranks.remove(0));
        thread::scope(|scope| {
            scope.spawn(move || drop(other));
            assert!(matches!(one.all_reduce_mean(Tensor::ones([3], &device)), Err(RankFailed)));
        });
    }

    #[test]
    fn the_mean_over_one_device_is_its_own_value() {
        let device = kernels::testing::test_device();
        let [rank] = <[Rank; 1]>::try_from(Rank::group(std::slice::from_ref(&device))).unwrap();
        let x = Tensor::<1>::from_floats([1.0, 2.0], &device);
        assert_eq!(rank.all_reduce_mean(x.clone()).unwrap().into_data(), x.into_data());
    }
}
