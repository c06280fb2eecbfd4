//! Process groups for data-parallel training: each rank processes a share of every batch, and gradients are averaged.

use std::{ops::Range, sync::Arc};

use burn::{
    module::Module,
    prelude::*,
    tensor::distributed::{ReduceOperation, all_reduce},
};
use kernels::{GpuGroup, gpu_uuid};
use ranks::{Group, Parts, Pending, Precision, Threads};

use crate::{
    Error, Recipe, RunRecipe,
    control::Requests,
    host_vectors::{tensor, values},
    learner::GptLearner,
    shards::Shards,
};

/// The most elements of one exchange through host memory, 25 MB of f32: MPI computes the mean of one part while it transfers
/// another.
const EXCHANGE_LEN_MAX: usize = 25 * 1024 * 1024 / 4;

/// The least elements of a bucket of gradients but the last: 1 MB of f32, which take 8 ms at 1 Gbit/s.
const BUCKET_LEN_MIN: usize = 1024 * 1024 / 4;

/// The same between GPUs, 25 MB: each exchange waits for the GPU.
const GPU_BUCKET_LEN_MIN: usize = 25 * 1024 * 1024 / 4;

/// One rank of a process group.
#[derive(Debug)]
pub(crate) struct Rank {
    /// Rank in the group, from 0.
    pub(crate) index: usize,
    pub(crate) size: usize,
    mean: Mean,
    /// The owners of optimizer states; `None` if each rank has all states.
    pub(crate) shards: Option<Shards>,
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
    /// Between the GPUs of several processes, by NCCL. All but gradients goes through host memory.
    Gpus(Arc<GpuGroup>, Arc<dyn Group>),
}

impl Rank {
    /// The rank of a device that trains alone.
    pub(crate) fn alone() -> Self {
        Self { index: 0, size: 1, mean: Mean::Single, shards: None }
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
        threads.map(|thread| Self { index: thread.index(), size, mean: mean(thread), shards: None }).collect()
    }

    /// The rank of a process that trains with others.
    pub(crate) fn process(group: Arc<dyn Group>) -> Self {
        Self { index: group.index(), size: group.size(), mean: Mean::Processes(group), shards: None }
    }

    /// From now on, gradients go directly from GPU to GPU, if each rank has an NVIDIA GPU of its own and NCCL. The other ways to
    /// exchange (bf16, divided optimizer states, local steps) go through host memory. Every rank must call this.
    ///
    /// # Errors
    ///
    /// If another rank has failed, or the GPUs can't connect.
    pub(crate) fn connect_gpus(&mut self, device: &Device, recipe: &RunRecipe) -> Result<(), Error> {
        let Mean::Processes(group) = &self.mean else { return Ok(()) };
        let is_plain = recipe.gradient_precision == model::Precision::F32
            && !recipe.shard_optimizer
            && !recipe.has_local_steps();
        let own = gpu_uuid(device).filter(|_| is_plain).map(Vec::from).unwrap_or_default();
        if !are_distinct_gpus(&group.gather(own)?) {
            return Ok(());
        }
        let id = if self.index == 0 { GpuGroup::new_id()? } else { Vec::new() };
        let id = group.broadcast(id, 0)?;
        let gpus = GpuGroup::join(&id, self.index, self.size, device)?;
        self.mean = Mean::Gpus(Arc::new(gpus), group.clone());
        Ok(())
    }

    /// Checks that the ranks can exchange gradients as the recipe says.
    ///
    /// # Errors
    ///
    /// If the recipe wants local steps or divided optimizer states of several devices of one process, or another precision
    /// of device collectives.
    pub(crate) fn check_exchange(&self, recipe: &RunRecipe) -> Result<(), Error> {
        match &self.mean {
            Mean::Collective(_) | Mean::Threads(_) if recipe.has_local_steps() => {
                Err(Error::LocalStepsOfDevices { n_devices: self.size })
            }
            Mean::Collective(_) if recipe.gradient_precision != model::Precision::F32 => {
                Err(Error::CollectivePrecision)
            }
            Mean::Collective(_) | Mean::Threads(_) if recipe.shard_optimizer => {
                Err(Error::ShardsOfDevices { n_devices: self.size })
            }
            _ => Ok(()),
        }
    }

    /// Divides the optimizer states over the ranks of its group.
    pub(crate) fn divide_optimizer(
        &mut self,
        group: &Arc<dyn Group>,
        recipe: &Recipe,
        learner: &mut GptLearner,
    ) {
        let shards = Shards::new(group.clone(), &learner.parameters(), recipe.optimizer.kind);
        learner.forget(shards.of_others(&learner.model().valid()));
        self.shards = Some(shards);
    }

    /// Whether exchanges make progress while the rank computes. Device collectives are queued behind its work.
    pub(crate) fn can_overlap(&self) -> bool {
        matches!(self.mean, Mean::Threads(_) | Mean::Processes(_))
    }

    /// The least elements of a bucket of gradients but the last.
    pub(crate) fn bucket_len_min(&self) -> usize {
        match self.mean {
            Mean::Gpus(..) => GPU_BUCKET_LEN_MIN,
            _ => BUCKET_LEN_MIN,
        }
    }

    /// Waits for a GPU's computation, if the time of exchanges would include it.
    pub(crate) fn finish_computation(&self, device: &Device) {
        if let Mean::Gpus(..) = self.mean {
            let _ = device.sync(); // An error here also fails the exchange.
        }
    }

    /// Starts the mean of `x` over all ranks, and returns without waiting for them. Every rank must call this.
    pub(crate) fn start_mean(&self, x: Tensor<1>, precision: Precision) -> PendingMean {
        match &self.mean {
            Mean::Single => PendingMean::Ready(x),
            Mean::Collective(devices) => {
                PendingMean::Ready(all_reduce(x, ReduceOperation::Mean, devices.clone()).resolve())
            }
            Mean::Threads(group) => PendingMean::start(group, x, precision, |_| Error::DeviceFailed),
            Mean::Processes(group) => PendingMean::start(&**group, x, precision, Error::Ranks),
            Mean::Gpus(gpus, _) => PendingMean::OnGpus(gpus.clone(), x),
        }
    }

    /// Starts the mean of `x` over all ranks, of which this one gets the elements that it owns, in ascending order. Only ranks
    /// with shards have parts.
    ///
    /// # Panics
    ///
    /// If the ranks are devices of one process.
    pub(crate) fn start_reduce(&self, x: Tensor<1>, parts: &Parts, precision: Precision) -> PendingMean {
        let Mean::Processes(group) = &self.mean else { panic!("devices of one process have no shards") };
        let (device, values) = (x.device(), values(x));
        // A rank may own all elements of an exchange, and receives them from each rank.
        let len_max = (EXCHANGE_LEN_MAX / self.size).max(1);
        let start = |(range, parts): (Range<usize>, Parts)| {
            group.start_reduce(values[range].to_vec(), &parts, precision)
        };
        let parts = parts.split(len_max).map(start).collect();
        PendingMean::OnHost(OnHost { parts, device, failed: Error::Ranks })
    }

    /// Starts the mean of measurements, such as the loss, over all ranks, and the exchange of requests.
    pub(crate) fn start_status(&self, measured: Tensor<1>, requests: Requests) -> PendingStatus {
        match &self.mean {
            Mean::Processes(group) | Mean::Gpus(_, group) => {
                let flags = Tensor::from_floats(requests.to_flags(), &measured.device());
                let all = Tensor::cat(vec![measured, flags], 0);
                let mean = PendingMean::start(&**group, all, Precision::F32, Error::Ranks);
                PendingStatus { mean, requests: None }
            }
            _ => PendingStatus { mean: self.start_mean(measured, Precision::F32), requests: Some(requests) },
        }
    }
}

/// A mean over all ranks that is being computed.
#[must_use = "wait for the result"]
pub(crate) enum PendingMean {
    Ready(Tensor<1>),
    OnHost(OnHost),
    /// Computed when it is waited for.
    OnGpus(Arc<GpuGroup>, Tensor<1>),
}

/// A mean that is exchanged through host memory.
pub(crate) struct OnHost {
    /// Consecutive parts of the vector.
    parts: Vec<Pending>,
    device: Device,
    failed: fn(ranks::Error) -> Error,
}

impl PendingMean {
    fn start(
        group: &dyn Group,
        x: Tensor<1>,
        precision: Precision,
        failed: fn(ranks::Error) -> Error,
    ) -> Self {
        let (device, values) = (x.device(), values(x));
        let parts = match values.len() {
            ..=EXCHANGE_LEN_MAX => vec![group.start_mean(values, precision)],
            _ => {
                let parts = values.chunks(EXCHANGE_LEN_MAX);
                parts.map(|part| group.start_mean(part.to_vec(), precision)).collect()
            }
        };
        Self::OnHost(OnHost { parts, device, failed })
    }

    /// Waits for the mean.
    ///
    /// # Errors
    ///
    /// If another rank has failed. Device collectives of one process do not detect this and wait forever; MPI ends ranks that wait
    /// for NCCL.
    pub(crate) fn wait(self) -> Result<Tensor<1>, Error> {
        let OnHost { parts, device, failed } = match self {
            Self::Ready(mean) => return Ok(mean),
            Self::OnHost(on_host) => on_host,
            Self::OnGpus(gpus, x) => return Ok(gpus.mean(x)?),
        };
        let parts: Result<Vec<_>, _> = parts.into_iter().map(Pending::wait).collect();
        let mut parts = parts.map_err(failed)?;
        Ok(tensor(if parts.len() == 1 { parts.remove(0) } else { parts.concat() }, &device))
    }
}

/// The mean measurements and the requests to any rank, while they are exchanged.
#[must_use = "wait for the result"]
pub(crate) struct PendingStatus {
    mean: PendingMean,
    /// Those to this process, unless they are exchanged.
    requests: Option<Requests>,
}

impl PendingStatus {
    /// Waits for the measurements and the requests.
    ///
    /// # Errors
    ///
    /// As [`PendingMean::wait`].
    pub(crate) fn wait(self) -> Result<(Tensor<1>, Requests), Error> {
        let mean = self.mean.wait()?;
        if let Some(requests) = self.requests {
            return Ok((mean, requests));
        }
        let [len] = mean.dims();
        let n_measured = len - Requests::N_FLAGS;
        let flags = values(mean.clone().narrow(0, n_measured, Requests::N_FLAGS));
        let flags = flags.try_into().expect("the flags are last");
        Ok((mean.narrow(0, 0, n_measured), Requests::from_mean(flags)))
    }
}

/// Whether each rank has a GPU that no other has. A rank without one has an empty UUID.
fn are_distinct_gpus(uuids: &[Vec<u8>]) -> bool {
    let is_distinct = |(idx, uuid): (usize, &Vec<u8>)| !uuid.is_empty() && !uuids[..idx].contains(uuid);
    uuids.iter().enumerate().all(is_distinct)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn mean(rank: &Rank, x: Tensor<1>) -> Result<TensorData, Error> {
        rank.start_mean(x, Precision::F32).wait().map(Tensor::into_data)
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
                    let loss = Tensor::from_floats([rank.index as f32], device);
                    let (mean, of_any) = rank.start_status(loss.clone(), requests).wait().unwrap();
                    assert_eq!(mean.into_data(), TensorData::from([1f32]));
                    assert_eq!(of_any, Requests { stop: true, save: true, sample: false });
                    let (_, none) = rank.start_status(loss, Requests::default()).wait().unwrap();
                    assert_eq!(none, Requests::default());
                });
            }
        });
    }

    #[test]
    fn only_gpus_of_their_own_exchange_directly() {
        let uuids = |bytes: &[&[u8]]| bytes.iter().map(|uuid| uuid.to_vec()).collect::<Vec<_>>();
        assert!(are_distinct_gpus(&uuids(&[&[1; 16], &[2; 16], &[3; 16]])));
        assert!(!are_distinct_gpus(&uuids(&[&[1; 16], &[2; 16], &[1; 16]])), "two ranks on one GPU");
        assert!(!are_distinct_gpus(&uuids(&[&[1; 16], &[]])), "a rank on a CPU");
    }

    #[test]
    fn long_vectors_are_exchanged_in_parts() {
        let device = kernels::testing::test_device();
        let len = EXCHANGE_LEN_MAX + 3;
        thread::scope(|scope| {
            for rank in Rank::group(&vec![device.clone(); 2]) {
                let device = &device;
                scope.spawn(move || {
                    let x = Tensor::<1, Int>::arange(0..len as i64, device).float() * (rank.index + 1) as f32;
                    let mean = values(rank.start_mean(x, Precision::F32).wait().unwrap());
                    assert_eq!(mean.len(), len);
                    for idx in [0, 1, EXCHANGE_LEN_MAX - 1, EXCHANGE_LEN_MAX, len - 1] {
                        assert_eq!(mean[idx], (idx as f32 + idx as f32 * 2.0) / 2.0);
                    }
                });
            }
        });
    }

    #[test]
    fn long_vectors_are_reduced_in_parts_to_their_owners() {
        let device = kernels::testing::test_device();
        let len = EXCHANGE_LEN_MAX + 3;
        // Rank 1 owns the ends.
        let parts = Parts::new(len, vec![vec![1..len - 2], vec![0..1, len - 2..len]]);
        thread::scope(|scope| {
            for group in Threads::group(2) {
                let (device, parts) = (&device, &parts);
                scope.spawn(move || {
                    let rank = Rank::process(Arc::new(group));
                    let x = Tensor::<1, Int>::arange(0..len as i64, device).float() * (rank.index + 1) as f32;
                    let got = values(rank.start_reduce(x, parts, Precision::F32).wait().unwrap());
                    let owned = parts.owned(rank.index).iter().cloned().flatten();
                    let expected: Vec<f32> = owned.map(|idx| (idx as f32 + idx as f32 * 2.0) / 2.0).collect();
                    assert!(got == expected);
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
