//! The exchange of a step's gradients between ranks.
//!
//! Gradients are sent in buckets as soon as the backward pass has computed them, and travel while it computes others. The
//! mean is taken element by element, with the ranks in order, so the buckets change no bit of it.

use std::{
    collections::HashMap,
    mem,
    time::{Duration, Instant},
};

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    optim::GradientsParams,
    prelude::*,
};
use ranks::Precision;

use crate::{
    Error,
    control::Requests,
    process_group::{PendingMean, Rank},
};

/// The gradients of a step on their way to the mean over all ranks.
pub(crate) struct Exchange<'a> {
    rank: &'a Rank,
    precision: Precision,
    bucket_len_min: usize,
    open: Bucket,
    /// Each with the gradients that this rank gets.
    started: Vec<(Vec<Entry>, PendingMean)>,
}

/// Gradients that are exchanged together, as one vector.
#[derive(Default)]
struct Bucket {
    entries: Vec<Entry>,
    gradients: Vec<Tensor<1>>,
    len: usize,
}

/// A gradient in a bucket.
struct Entry {
    id: ParamId,
    len: usize,
}

/// The means over all ranks; with shards, of the gradients that this rank owns.
pub(crate) struct Exchanged {
    pub(crate) grads: GradientsParams,
    /// `[1]`
    pub(crate) loss: Tensor<1>,
    /// To any rank.
    pub(crate) requests: Requests,
    /// How long this rank had to wait for others.
    pub(crate) waited: Duration,
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(rank: &'a Rank, precision: Precision) -> Self {
        let bucket_len_min = rank.bucket_len_min();
        Self { rank, precision, bucket_len_min, open: Bucket::default(), started: Vec::new() }
    }

    /// Adds gradients, in parameter order, each with its part in `earlier`, which is removed there. Starts to exchange full
    /// buckets. All ranks must add the same parameters in the same order.
    pub(crate) fn add<M: Module>(
        &mut self,
        module: &M,
        earlier: &mut GradientsParams,
        gradients: GradientsParams,
    ) {
        module.visit(&mut Add { exchange: self, earlier, gradients });
    }

    fn push(&mut self, id: ParamId, gradient: Tensor<1>) {
        let [len] = gradient.dims();
        self.open.entries.push(Entry { id, len });
        self.open.gradients.push(gradient);
        self.open.len += len;
        if self.open.len >= self.bucket_len_min {
            self.start();
        }
    }

    /// Starts to exchange the open bucket.
    fn start(&mut self) {
        let Bucket { entries, gradients, .. } = mem::take(&mut self.open);
        if !entries.is_empty() {
            let (gradients, precision) = (Tensor::cat(gradients, 0), self.precision);
            let (received, mean) = match &self.rank.shards {
                None => (entries, self.rank.start_mean(gradients, precision)),
                Some(shards) => {
                    let parts = shards.parts(entries.iter().map(|entry| (entry.id, entry.len)));
                    let is_own = |entry: &Entry| shards.owner(entry.id) == self.rank.index;
                    let own = entries.into_iter().filter(is_own).collect();
                    (own, self.rank.start_reduce(gradients, &parts, precision))
                }
            };
            self.started.push((received, mean));
        }
    }

    /// Exchanges the open bucket, the loss, `[1]`, and the requests to this rank, and waits for all means.
    ///
    /// # Errors
    ///
    /// If another rank has failed.
    pub(crate) fn finish<M: Module>(
        mut self,
        module: &M,
        loss: Tensor<1>,
        requests: Requests,
    ) -> Result<Exchanged, Error> {
        self.start();
        self.rank.finish_computation(&loss.device());
        let status = self.rank.start_status(loss, requests);
        let began = Instant::now();
        let mut means = HashMap::new();
        for (entries, mean) in self.started {
            let mean = mean.wait()?;
            let mut start = 0;
            for Entry { id, len } in entries {
                means.insert(id, mean.clone().narrow(0, start, len));
                start += len;
            }
        }
        let (loss, requests) = status.wait()?;
        let waited = began.elapsed();
        let mut restore = Restore { means, grads: GradientsParams::new() };
        module.visit(&mut restore);
        Ok(Exchanged { grads: restore.grads, loss, requests, waited })
    }
}

/// Adds gradients to an exchange, in parameter order.
struct Add<'a, 'b> {
    exchange: &'a mut Exchange<'b>,
    earlier: &'a mut GradientsParams,
    gradients: GradientsParams,
}

impl ModuleVisitor for Add<'_, '_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else { return };
        let sum = match self.earlier.remove::<D>(param.id) {
            Some(earlier) => earlier + gradient,
            None => gradient,
        };
        self.exchange.push(param.id, sum.reshape([-1]));
    }
}

/// Gives the means the shapes of their parameters.
struct Restore {
    means: HashMap<ParamId, Tensor<1>>,
    grads: GradientsParams,
}

impl ModuleVisitor for Restore {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(mean) = self.means.remove(&param.id) {
            self.grads.register::<D>(param.id, mean.reshape(param.val().shape()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use burn::nn::{Linear, LinearConfig};

    use super::*;

    /// Gradients of layers with five inputs and seven outputs, with other values for each seed.
    fn gradients(layers: &[Linear], seed: u32, device: &Device) -> GradientsParams {
        let mut state = seed;
        let mut next = |n: usize| -> Vec<f32> {
            let values = std::iter::repeat_with(|| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            });
            values.take(n).collect()
        };
        let mut grads = GradientsParams::new();
        for layer in layers {
            let weight = Tensor::<2>::from_data(TensorData::new(next(35), [5, 7]), device);
            grads.register(layer.weight.id, weight);
            let bias = Tensor::<1>::from_data(TensorData::new(next(7), [7]), device);
            grads.register(layer.bias.as_ref().unwrap().id, bias);
        }
        grads
    }

    fn values(layers: &[Linear], grads: &GradientsParams) -> Vec<TensorData> {
        let of = |layer: &Linear| {
            let bias = grads.get::<1>(layer.bias.as_ref().unwrap().id).unwrap();
            [grads.get::<2>(layer.weight.id).unwrap().into_data(), bias.into_data()]
        };
        layers.iter().flat_map(of).collect()
    }

    #[test]
    fn buckets_change_no_bit_of_the_means() {
        let device = kernels::testing::test_device();
        let layers: Vec<Linear> = (0..3).map(|_| LinearConfig::new(5, 7).init(&device)).collect();
        let of_ranks =
            |seed: u32| (0..3).map(|rank| gradients(&layers, seed + rank, &device)).collect::<Vec<_>>();
        let exchanged = |bucket_len_min: usize, is_in_order: bool| {
            let ranks = Rank::group(&vec![device.clone(); 3]).into_iter();
            let ranks = ranks.zip(of_ranks(10)).zip(of_ranks(20));
            thread::scope(|scope| {
                let layers = &layers;
                let handles: Vec<_> = ranks
                    .map(|((rank, mut earlier), mut last)| {
                        let device = device.clone();
                        scope.spawn(move || {
                            let mut exchange =
                                Exchange { bucket_len_min, ..Exchange::new(&rank, Precision::F32) };
                            // As a backward pass hands them over, the last layer first, or all together.
                            for layer in layers.iter().rev().take(if is_in_order { 0 } else { 2 }) {
                                let mut of_layer = GradientsParams::new();
                                let weight = last.remove::<2>(layer.weight.id).unwrap();
                                of_layer.register(layer.weight.id, weight);
                                let bias = layer.bias.as_ref().unwrap().id;
                                of_layer.register(bias, last.remove::<1>(bias).unwrap());
                                exchange.add(&layers.to_vec(), &mut earlier, of_layer);
                            }
                            exchange.add(&layers.to_vec(), &mut earlier, last);
                            let n_started = exchange.started.len();
                            let loss = Tensor::from_floats([rank.index as f32], &device);
                            let done = exchange.finish(&layers.to_vec(), loss, Requests::default()).unwrap();
                            assert_eq!(done.loss.into_data(), TensorData::from([1f32]));
                            (values(layers, &done.grads), n_started)
                        })
                    })
                    .collect();
                handles.into_iter().map(|handle| handle.join().unwrap()).collect::<Vec<_>>()
            })
        };
        let whole = exchanged(usize::MAX, true);
        assert!(whole.iter().all(|of_rank| *of_rank == (whole[0].0.clone(), 0)));
        for (bucket_len_min, n_started) in [(1, 6), (36, 3), (45, 2), (50, 1)] {
            let buckets = exchanged(bucket_len_min, false);
            assert!(buckets.iter().all(|of_rank| *of_rank == (whole[0].0.clone(), n_started)), "{n_started}");
        }
    }
}
