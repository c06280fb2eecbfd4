//! Process groups for data-parallel training: each rank processes a share of every batch, and gradients are averaged.

use std::sync::Arc;

use burn::{
    prelude::*,
    tensor::distributed::{ReduceOperation, all_reduce},
};
use ranks::{Group, Precision, Threads};

use crate::{Error, control::Requests};

/// One rank of a process group.
#[derive(Debug)]
pub(crate) struct Rank {
    /// Rank in the group, from 0.
    pub(crate) index: usize,
    pub(crate) size: usize,
    mean: Mean,
}

/// How the mean over the ranks is computed.
#[derive(Debug)]
enum Mean {
    Single,
    /// By collective operations between the devices of this process.
    Collective(Vec<Device>),
    /// Through host memory, between threads of this process. Dropping the rank fails the others.
    Threads(Threads),
    /// Through host memory, between processes.
    Processes(Arc<dyn Group>),
}

impl Rank {
    /// The rank of a device that trains alone.
    pub(crate) fn alone() -> Self {
        Self { index: 0, size: 1, mean: Mean::Single }
    }

    /// One rank for each device of this process.
    pub(crate) fn group(devices: &[Device]) -> Vec<Self> {
        let size = devices.len();
        // Collectives on a device listed twice would deadlock.
        let are_distinct = (1..size).all(|idx| !devices[..idx].contains(&devices[idx]));
        let has_collectives = are_distinct && devices.iter().all(kernels::has_collectives);
        let mean = |thread| match () {
            () if size == 1 => Mean::Single,
            () if has_collectives => Mean::Collective(devices.to_vec()),
            () => Mean::Threads(thread),
        };
        let threads = Threads::group(size).into_iter();
        threads.map(|thread| Self { index: thread.index(), size, mean: mean(thread) }).collect()
    }

    /// The rank of a process that trains with others.
    pub(crate) fn process(group: Arc<dyn Group>) -> Self {
        Self { index: group.index(), size: group.size(), mean: Mean::Processes(group) }
    }

    /// The mean of `x` over all ranks, and the requests to any process. Every rank must call this.
    ///
    /// # Errors
    ///
    /// If another rank has failed. Device collectives do not detect this and wait forever.
    pub(crate) fn all_reduce_mean(
        &self,
        x: Tensor<1>,
        requests: Requests,
    ) -> Result<(Tensor<1>, Requests), Error> {
        match &self.mean {
            Mean::Single => Ok((x, requests)),
            Mean::Collective(devices) => {
                Ok((all_reduce(x, ReduceOperation::Mean, devices.clone()).resolve(), requests))
            }
            Mean::Threads(group) => {
                let (device, values) = (x.device(), values(x));
                let mean = group.start_mean(values, Precision::F32).wait();
                Ok((tensor(mean.map_err(|_| Error::DeviceFailed)?, &device), requests))
            }
            Mean::Processes(group) => {
                let (device, mut values) = (x.device(), values(x));
                values.extend(requests.to_flags());
                let mut mean = group.start_mean(values, Precision::F32).wait()?;
                let flags = mean.split_off(mean.len() - Requests::N_FLAGS);
                let flags = flags.try_into().expect("the flags come last");
                Ok((tensor(mean, &device), Requests::from_mean(flags)))
            }
        }
    }
}

fn values(x: Tensor<1>) -> Vec<f32> {
    x.into_data().try_into_vec().expect("gradients are f32")
}

fn tensor(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let shape = [values.len()];
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn mean(rank: &Rank, x: Tensor<1>) -> Result<TensorData, Error> {
        rank.all_reduce_mean(x, Requests::default()).map(|(mean, _)| mean.into_data())
    }

    #[test]
    fn a_request_to_one_process_reaches_all() {
        let device = kernels::testing::test_device();
        let asked =
            [Requests { save: true, ..Requests::default() }, Requests { stop: true, ..Requests::default() }];
        let ranks = Threads::group(3).into_iter().zip([asked[0], Requests::default(), asked[1]]);
        thread::scope(|scope| {
            for (rank, requests) in ranks {
                let device = &device;
                scope.spawn(move || {
                    let rank = Rank::process(Arc::new(rank));
                    let (mean, of_any) = rank.all_reduce_mean(Tensor::ones([2], device), requests).unwrap();
                    assert_eq!(mean.into_data(), TensorData::from([1f32, 1.0]));
                    assert_eq!(of_any, Requests { stop: true, save: true, sample: false });
                    let (_, none) =
                        rank.all_reduce_mean(Tensor::ones([2], device), Requests::default()).unwrap();
                    assert_eq!(none, Requests::default());
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
            assert!(matches!(mean(&one, Tensor::ones([3], &device)), Err(Error::DeviceFailed)));
        });
    }

    #[test]
    fn the_mean_over_one_device_is_its_own_value() {
        let device = kernels::testing::test_device();
        let [rank] = <[Rank; 1]>::try_from(Rank::group(std::slice::from_ref(&device))).unwrap();
        let x = Tensor::<1>::from_floats([1.0, 2.0], &device);
        assert_eq!(mean(&rank, x.clone()).unwrap(), x.into_data());
    }
}
