//! Process groups: devices that take a share of every batch each, and step by the mean of their gradients.

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
    /// Its number in the group, from 0.
    pub(crate) index: usize,
    /// Devices in the group.
    pub(crate) size: usize,
    mean: Mean,
}

/// How a mean over the devices is made.
#[derive(Debug)]
enum Mean {
    /// There is one device.
    OfOne,
    /// From device to device.
    Collective(Vec<Device>),
    /// By way of the host's memory.
    Host(Guard),
}

/// Another device does not train any more, so that there is no mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left;

impl Rank {
    /// The rank of a device that trains alone.
    pub(crate) fn alone() -> Self {
        Self { index: 0, size: 1, mean: Mean::OfOne }
    }

    /// The ranks of several devices, one each.
    pub(crate) fn group(devices: &[Device]) -> Vec<Self> {
        let size = devices.len();
        let exchange = Arc::new(Exchange::new(size));
        let mean = |rank| {
            if size == 1 {
                return Mean::OfOne;
            }
            // A device that is there twice would wait for itself.
            let are_different = (1..size).all(|idx| !devices[..idx].contains(&devices[idx]));
            if are_different && devices.iter().all(kernels::has_collectives) {
                return Mean::Collective(devices.to_vec());
            }
            Mean::Host(Guard { rank, exchange: exchange.clone() })
        };
        (0..size).map(|index| Self { index, size, mean: mean(index) }).collect()
    }

    /// The mean over the devices of what each of them has; all of them have to ask for it.
    ///
    /// # Errors
    ///
    /// If one of them has left. Collectives of devices wait for it without end.
    pub(crate) fn mean(&self, x: Tensor<1>) -> Result<Tensor<1>, Left> {
        match &self.mean {
            Mean::OfOne => Ok(x),
            Mean::Collective(devices) => Ok(all_reduce(x, ReduceOperation::Mean, devices.clone()).resolve()),
            Mean::Host(guard) => {
                let device = x.device();
                let part = x.into_data().try_into_vec().expect("gradients are f32");
                let mean = guard.exchange.mean(guard.rank, part).ok_or(Left)?;
                Ok(Tensor::from_data(TensorData::from(mean.as_slice()), &device))
            }
        }
    }
}

/// A rank that says so when it is gone.
struct Guard {
    rank: usize,
    exchange: Arc<Exchange>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.exchange.close();
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("rank", &self.rank).finish_non_exhaustive()
    }
}

/// Where threads bring their parts and wait for the mean.
struct Exchange {
    round: Mutex<Round>,
    changed: Condvar,
}

#[derive(Default)]
struct Round {
    parts: Vec<Option<Vec<f32>>>,
    /// Of all parts, once they are there, until each thread has taken it.
    mean: Option<Arc<Vec<f32>>>,
    n_taken: usize,
    /// Whether a thread has left.
    is_closed: bool,
}

impl Exchange {
    fn new(size: usize) -> Self {
        let round = Round { parts: vec![None; size], ..Round::default() };
        Self { round: Mutex::new(round), changed: Condvar::new() }
    }

    /// The mean of the parts, added up in the order of ranks whoever comes first; none if a thread has left.
    fn mean(&self, rank: usize, part: Vec<f32>) -> Option<Arc<Vec<f32>>> {
        // The last round is over when everybody has its mean.
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
            .expect("nobody panics while holding it")
    }

    fn lock(&self) -> MutexGuard<'_, Round> {
        self.round.lock().expect("nobody panics while holding it")
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn everybody_gets_the_mean_of_each_round() {
        let device = kernels::testing::test_device();
        let ranks = Rank::group(&vec![device.clone(); 3]);
        thread::scope(|scope| {
            for rank in ranks {
                let device = &device;
                scope.spawn(move || {
                    for round in 0..50 {
                        let mine = [rank.index as f32, (rank.index * round) as f32];
                        let mean = rank.mean(Tensor::from_floats(mine, device)).unwrap();
                        assert_eq!(mean.into_data(), TensorData::from([1.0, round as f32]));
                    }
                });
            }
        });
    }

    #[test]
    fn who_waits_is_told_when_another_leaves() {
        let device = kernels::testing::test_device();
        let mut ranks = Rank::group(&vec![device.clone(); 2]);
        let (one, other) = (ranks.remove(0), ranks.remove(0));
        thread::scope(|scope| {
            scope.spawn(move || drop(other));
            assert!(matches!(one.mean(Tensor::ones([3], &device)), Err(Left)));
        });
    }

    #[test]
    fn one_device_has_its_own_mean() {
        let device = kernels::testing::test_device();
        let [rank] = <[Rank; 1]>::try_from(Rank::group(std::slice::from_ref(&device))).unwrap();
        let x = Tensor::<1>::from_floats([1.0, 2.0], &device);
        assert_eq!(rank.mean(x.clone()).unwrap().into_data(), x.into_data());
    }
}
