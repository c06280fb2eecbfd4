//! Optimizer states divided over ranks, as in ZeRO-1 ([Rajbhandari et al., 2020](https://arxiv.org/abs/1910.02054)).
//!
//! Each parameter has an owner: the one rank that gets its mean gradient, holds its optimizer state and updates it. The
//! owners then send the new weights to all ranks. Parameters are whole, because Muon needs whole matrices.

use std::{collections::HashMap, sync::Arc};

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    optim::GradientsParams,
    prelude::*,
    store::RecordError,
    tensor::Bytes,
};
use burn_pack::{Reader, Writer};
use ranks::{Group, Parts, Pending, Precision};

use crate::{
    Error, OptimizerKind,
    host_vectors::{tensor, values},
    optimizer::uses_muon,
    records::{Parameters, sorted_writer},
};

/// The time of a step of Muon relative to AdamW's, by element and by row or column of the shorter side: ten products of a
/// matrix with its Gram matrix or with a polynomial of it take about 20 to 30 FLOPs, and AdamW moves 28 bytes, in which time a core
/// computes about 500 FLOPs.
const MUON_COST: f64 = 0.05;

/// The most elements of weights that are gathered together, 25 MB.
const GATHERED_LEN_MAX: usize = 25 * 1024 * 1024 / 4;

/// The most bytes of optimizer state in one exchange.
const CHUNK_BYTES: usize = 64 << 20;

/// The owners of all trained parameters.
#[derive(Debug)]
pub(crate) struct Shards {
    group: Arc<dyn Group>,
    /// In module order.
    parameters: Vec<Parameter>,
    owners: HashMap<ParamId, usize>,
}

#[derive(Debug, Clone, Copy)]
struct Parameter {
    id: ParamId,
    len: usize,
    owner: usize,
}

impl Shards {
    /// Divides parameters so that the optimizer takes about the same time on all ranks: each parameter, the most expensive first,
    /// goes to the rank with the least work.
    pub(crate) fn new(group: Arc<dyn Group>, trained: &Parameters, kind: OptimizerKind) -> Self {
        let shape = |idx: usize| trained.tensors[idx].shape.to_vec();
        let costs: Vec<f64> =
            trained.names.iter().enumerate().map(|(idx, (_, path))| cost(&shape(idx), path, kind)).collect();
        let owners = balance(&costs, group.size());
        let parameters = trained.names.iter().enumerate().map(|(idx, (id, _))| Parameter {
            id: *id,
            len: shape(idx).iter().product(),
            owner: owners[idx],
        });
        let parameters: Vec<Parameter> = parameters.collect();
        let owners = parameters.iter().map(|parameter| (parameter.id, parameter.owner)).collect();
        Self { group, parameters, owners }
    }

    /// The rank that owns a parameter.
    ///
    /// # Panics
    ///
    /// If the parameter is not trained.
    pub(crate) fn owner(&self, id: ParamId) -> usize {
        *self.owners.get(&id).expect("only trained parameters have gradients")
    }

    /// The ranges of consecutive parameters with these lengths and owners.
    pub(crate) fn parts(&self, parameters: impl Iterator<Item = (ParamId, usize)>) -> Parts {
        let mut ranges = vec![Vec::new(); self.group.size()];
        let mut end = 0;
        for (id, len) in parameters {
            ranges[self.owner(id)].push(end..end + len);
            end += len;
        }
        Parts::new(end, ranges)
    }

    /// The Euclidean norm over the gradients of all ranks, `[1]`, with the bits of [`global_norm`](crate::gradients::global_norm).
    ///
    /// # Errors
    ///
    /// If another rank has failed.
    pub(crate) fn global_norm<M: Module>(
        &self,
        module: &M,
        grads: &GradientsParams,
        device: &Device,
    ) -> Result<Tensor<1>, Error> {
        let mut squares = Squares { shards: self, grads, own: Vec::new(), device };
        module.visit(&mut squares);
        let parts = self.parts(self.parameters.iter().map(|parameter| (parameter.id, 1)));
        let all = self.group.start_gather(joined(squares.own), &parts, Precision::F32).wait()?;
        let sum: f32 = all.iter().fold(0.0, |sum, square| sum + square);
        Ok(tensor(vec![sum], device).sqrt())
    }

    /// The weights that other ranks own, after their step.
    ///
    /// # Errors
    ///
    /// If another rank has failed.
    pub(crate) fn gather_weights<M: Module>(&self, module: &M) -> Result<GradientsParams, Error> {
        let mut own = Own { shards: self, weights: HashMap::new() };
        module.visit(&mut own);
        let mut gathered = HashMap::new();
        let mut previous: Option<(&[Parameter], Pending)> = None;
        for parameters in self.gathered_together() {
            let parts = self.parts(parameters.iter().map(|parameter| (parameter.id, parameter.len)));
            let weights = parameters.iter().filter_map(|parameter| own.weights.remove(&parameter.id));
            let pending = self.group.start_gather(joined(weights.collect()), &parts, Precision::F32);
            if let Some(previous) = previous.replace((parameters, pending)) {
                self.receive(previous, &mut gathered)?;
            }
        }
        if let Some(last) = previous {
            self.receive(last, &mut gathered)?;
        }
        let mut restore = Restore { gathered, weights: GradientsParams::new() };
        module.visit(&mut restore);
        Ok(restore.weights)
    }

    /// Consecutive parameters with at most [`GATHERED_LEN_MAX`] elements, or a single larger one.
    fn gathered_together(&self) -> impl Iterator<Item = &[Parameter]> {
        let mut len = 0;
        self.parameters.chunk_by(move |a, b| {
            len += a.len;
            let fits = len + b.len <= GATHERED_LEN_MAX;
            len = if fits { len } else { 0 };
            fits
        })
    }

    /// Waits for weights, and keeps those of other ranks.
    fn receive(
        &self,
        (parameters, pending): (&[Parameter], Pending),
        gathered: &mut HashMap<ParamId, Vec<f32>>,
    ) -> Result<(), Error> {
        let weights = pending.wait()?;
        let mut start = 0;
        for &Parameter { id, len, owner } in parameters {
            if owner != self.group.index() {
                gathered.insert(id, weights[start..start + len].to_vec());
            }
            start += len;
        }
        Ok(())
    }

    /// The parameters that other ranks own, each as its own gradient.
    pub(crate) fn of_others<M: Module>(&self, module: &M) -> GradientsParams {
        let mut others = Others { shards: self, parameters: GradientsParams::new() };
        module.visit(&mut others);
        others.parameters
    }

    /// The whole optimizer file on rank 0, from the files with the states of each rank. The others keep theirs.
    ///
    /// # Errors
    ///
    /// If another rank has failed, or its file is not one.
    pub(crate) fn gather_optimizer(&self, own: Writer) -> Result<Writer, Error> {
        let own = own.into_bytes().map_err(RecordError::from)?;
        let is_root = self.group.index() == 0;
        let mut files = Vec::new();
        for rank in 1..self.group.size() {
            let file = self.broadcast(&own, rank, is_root)?;
            files.extend(is_root.then_some(Bytes::from_bytes_vec(file)));
        }
        files.insert(0, own);
        merged(files).map_err(|error| Error::Record(error.into()))
    }

    /// The bytes of `rank`; empty unless they are kept.
    fn broadcast(&self, own: &[u8], rank: usize, is_kept: bool) -> Result<Vec<u8>, Error> {
        let is_own = rank == self.group.index();
        let len = self.group.broadcast(own.len().to_le_bytes().to_vec(), rank)?;
        let len = usize::from_le_bytes(len.try_into().expect("a length has eight bytes"));
        let mut all = Vec::new();
        for start in (0..len).step_by(CHUNK_BYTES) {
            let chunk = if is_own { own[start..len.min(start + CHUNK_BYTES)].to_vec() } else { Vec::new() };
            let chunk = self.group.broadcast(chunk, rank)?;
            if is_kept {
                all.extend(chunk);
            }
        }
        Ok(all)
    }
}

/// The time of an optimizer step of a parameter, in elements of AdamW.
fn cost(shape: &[usize], path: &str, kind: OptimizerKind) -> f64 {
    let len = shape.iter().product::<usize>() as f64;
    let shorter = shape.iter().min().copied().unwrap_or(1) as f64;
    if uses_muon(kind, path) { len * (1.0 + MUON_COST * shorter) } else { len }
}

/// The rank of each cost. Equal costs go to ranks in order.
fn balance(costs: &[f64], n_ranks: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..costs.len()).collect();
    order.sort_by(|&a, &b| costs[b].total_cmp(&costs[a]));
    let mut work = vec![0.0; n_ranks];
    let mut owners = vec![0; costs.len()];
    for idx in order {
        let least = (0..n_ranks).min_by(|&a, &b| f64::total_cmp(&work[a], &work[b]));
        owners[idx] = least.expect("a group has ranks");
        work[owners[idx]] += costs[idx];
    }
    owners
}

/// One file with the states of several.
fn merged(files: Vec<Bytes>) -> Result<Writer, burn_pack::Error> {
    let (mut tensors, mut scalars, mut paths) = (Vec::new(), Vec::new(), Vec::new());
    for file in files {
        let reader = Reader::from_bytes(file)?;
        scalars.extend(reader.scalars().clone());
        paths.extend(reader.metadata().clone());
        tensors.extend(reader.into_tensors()?);
    }
    Ok(sorted_writer(tensors, scalars.into_iter().collect(), paths.into_iter().collect()))
}

/// The elements of vectors, on the host.
fn joined(vectors: Vec<Tensor<1>>) -> Vec<f32> {
    if vectors.is_empty() { Vec::new() } else { values(Tensor::cat(vectors, 0)) }
}

/// Collects the sum of squares of each gradient that this rank owns, in module order.
struct Squares<'a> {
    shards: &'a Shards,
    grads: &'a GradientsParams,
    own: Vec<Tensor<1>>,
    device: &'a Device,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.shards.owners.get(&param.id) == Some(&self.shards.group.index()) {
            let gradient = self.grads.get::<D>(param.id);
            self.own.push(gradient.map_or_else(|| Tensor::zeros([1], self.device), kernels::sum_of_squares));
        }
    }
}

/// Collects the weights that this rank owns, as vectors.
struct Own<'a> {
    shards: &'a Shards,
    weights: HashMap<ParamId, Tensor<1>>,
}

impl ModuleVisitor for Own<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.shards.owners.get(&param.id) == Some(&self.shards.group.index()) {
            self.weights.insert(param.id, param.val().reshape([-1]));
        }
    }
}

/// Collects the weights that other ranks own.
struct Others<'a> {
    shards: &'a Shards,
    parameters: GradientsParams,
}

impl ModuleVisitor for Others<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.shards.owners.get(&param.id).is_some_and(|owner| *owner != self.shards.group.index()) {
            self.parameters.register(param.id, param.val());
        }
    }
}

/// Gives gathered weights the shapes of their parameters.
struct Restore {
    gathered: HashMap<ParamId, Vec<f32>>,
    weights: GradientsParams,
}

impl ModuleVisitor for Restore {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(values) = self.gathered.remove(&param.id) {
            let before = param.val();
            let weights = TensorData::new(values, before.shape());
            self.weights.register(param.id, Tensor::<D>::from_data(weights, &before.device()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{iter, thread};

    use model::GptConfig;
    use ranks::Threads;

    use super::*;
    use crate::{
        Recipe, batches::TokenBatch, control::Requests, learner::GptLearner, optimizer_command::Scale,
        preset, process_group::Rank, step::gradient,
    };

    /// The files of a rank after a few steps.
    #[derive(PartialEq)]
    struct Files {
        model: Vec<u8>,
        /// With the states that the rank has.
        own: Vec<u8>,
        /// With all states, on rank 0.
        gathered: Vec<u8>,
    }

    /// Three steps on each of three ranks, the second one skipped.
    fn train(kind: &str, is_divided: bool) -> Vec<Files> {
        let sets = [format!("optimizer.kind={kind}"), "optimizer.batch_size=3".to_owned()];
        let recipe = Recipe::parse(preset("debug").unwrap(), &sets).unwrap();
        let recipe = Recipe { model: GptConfig { vocab_size: 7, ..recipe.model }, ..recipe };
        let model = recipe.model.init(1, &kernels::testing::test_device()).unwrap();
        let work = |group: Threads| {
            let group: Arc<dyn Group> = Arc::new(group);
            let device = kernels::testing::test_device().autodiff();
            let mut learner = GptLearner::new(model.clone(), &recipe, Arc::new(|_| 1e-2), 0);
            let mut rank = Rank::process(group.clone());
            rank.shards =
                is_divided.then(|| Shards::new(group.clone(), &learner.parameters(), recipe.optimizer.kind));
            let first = i32::try_from(rank.index).unwrap();
            let ids = Tensor::<2, Int>::from_data([[first, 1, 2, 3], [3, 2, 4, 1]], &device);
            let mut batches = iter::repeat(TokenBatch::of_windows(ids.clone(), ids));
            for (step, scale) in
                [Scale::Known(0.5), Scale::Skipped, Scale::Known(1.0)].into_iter().enumerate()
            {
                let with = (&rank, Requests::default());
                let step = gradient(&mut learner, &mut batches, &recipe, step as u64, &device, with).unwrap();
                assert!(step.read().grad_norm > 0.0);
                step.apply(&mut learner, scale, &rank).unwrap();
            }
            let bytes = |writer: Writer| writer.into_bytes().unwrap().to_vec();
            let (snapshot, own) = (learner.snapshot(), bytes(learner.snapshot().optimizer));
            let gathered = match &rank.shards {
                Some(shards) => bytes(shards.gather_optimizer(snapshot.optimizer).unwrap()),
                None => own.clone(),
            };
            if let Some(shards) = &rank.shards {
                learner.forget(shards.of_others(&learner.model().valid()));
                assert!(bytes(learner.snapshot().optimizer) == own, "a rank has no states of others");
            }
            group.finish().unwrap();
            Files { model: bytes(snapshot.model), own, gathered }
        };
        thread::scope(|scope| {
            let handles: Vec<_> =
                Threads::group(3).into_iter().map(|group| scope.spawn(|| work(group))).collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).collect()
        })
    }

    #[test]
    fn ranks_with_a_third_of_the_states_take_the_same_steps() {
        for kind in ["adamw", "muon"] {
            let (whole, divided) = (train(kind, false), train(kind, true));
            for (rank, files) in divided.iter().enumerate() {
                assert!(files.model == whole[0].model && whole[rank] == whole[0], "{kind}, rank {rank}");
                let share = files.own.len() as f64 / whole[0].own.len() as f64;
                assert!((0.1..0.6).contains(&share), "{kind}, rank {rank}: {share}");
            }
            assert!(divided[0].gathered == whole[0].own, "{kind}");
        }
    }

    #[test]
    fn states_of_others_are_forgotten() {
        let recipe = Recipe::parse(preset("debug").unwrap(), &[]).unwrap();
        let recipe = Recipe { model: GptConfig { vocab_size: 7, ..recipe.model }, ..recipe };
        let model = recipe.model.init(1, &kernels::testing::test_device()).unwrap();
        let mut learner = GptLearner::new(model, &recipe, Arc::new(|_| 1e-2), 0);
        let trained = learner.parameters();
        let n_parameters = trained.names.len();
        let [first, _second] = <[Threads; 2]>::try_from(Threads::group(2)).unwrap();
        let shards = Shards::new(Arc::new(first), &trained, OptimizerKind::AdamW);
        learner.optimizer_step(trained.as_gradients, Scale::Known(1.0));

        let n_states = |learner: &mut GptLearner| {
            let file = learner.snapshot().optimizer.into_bytes().unwrap();
            Reader::from_bytes(file).unwrap().into_tensors().unwrap().len() / 2 // Two moments.
        };
        assert_eq!(n_states(&mut learner), n_parameters);
        learner.forget(shards.of_others(&learner.model().valid()));
        let n_own = shards.parameters.iter().filter(|parameter| parameter.owner == 0).count();
        assert!(n_own > 0 && n_own < n_parameters);
        assert_eq!(n_states(&mut learner), n_own);
    }

    #[test]
    fn work_is_balanced_and_each_parameter_has_one_owner() {
        assert_eq!(balance(&[1.0, 8.0, 4.0, 3.0], 2), [1, 0, 1, 1]);
        assert_eq!(balance(&[2.0, 2.0, 2.0], 3), [0, 1, 2]);
        assert_eq!(balance(&[5.0], 3), [0]);
        let projection = "gpt.blocks.0.attention.project.weight";
        let [adamw, muon] = [OptimizerKind::AdamW, OptimizerKind::Muon];
        assert_eq!([adamw, muon].map(|kind| cost(&[384, 100], projection, kind)), [38400.0, 38400.0 * 6.0]);
        assert_eq!(cost(&[384, 100], "gpt.token_embedding.weight", muon), 38400.0);
    }
}
