//! Local steps, as in DiLoCo ([Douillard et al., 2023](https://arxiv.org/abs/2311.08105)): each rank takes optimizer steps by
//! itself, and all synchronise after `run.sync_interval` steps.
//!
//! At a synchronisation, the distance that the weights have moved, averaged over the ranks, is the gradient of an outer step:
//! SGD with Nesterov momentum. Optimizer states are averaged too, unlike in DiLoCo, so that all ranks are equal and a
//! checkpoint of one resumes on any number of them. One rank alone takes outer steps too, for the same reason.

use std::{
    collections::HashMap,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    optim::GradientsParams,
    prelude::*,
    store::RecordError,
    tensor::Bytes,
};
use burn_pack::{Reader, Writer};
use checkpoint::Checkpoint;
use ranks::{Group, Precision};

use crate::{Error, Recipe, host_vectors::tensor, learner::GptLearner, records};

/// The learning rate of outer steps, as in DiLoCo.
const OUTER_RATE: f32 = 0.7;

/// The Nesterov momentum of outer steps. DiLoCo uses 0.9 with 500 local steps. With 10, `tiny` on two ranks reached a validation
/// loss of 1.620 with 0.9, 1.525 with 0.5, and 1.529 with gradients exchanged at each step.
const OUTER_MOMENTUM: f32 = 0.5;

/// The most elements that are exchanged together, 25 MB of f32.
const EXCHANGE_LEN_MAX: usize = 25 * 1024 * 1024 / 4;

/// The state of outer steps. Vectors are in module order, one for each trained parameter.
pub(crate) struct LocalSteps {
    group: Arc<dyn Group>,
    precision: Precision,
    /// The weights after the last synchronisation.
    start: Vec<Vec<f32>>,
    momentum: Vec<Vec<f32>>,
    /// Whether there was no step since the last synchronisation.
    is_synchronised: bool,
}

impl LocalSteps {
    /// The state before the next step; `None` if ranks exchange gradients instead. Without a momentum in the checkpoint it
    /// is zero.
    ///
    /// # Errors
    ///
    /// If the checkpoint's momentum can't be read, or belongs to other parameters.
    pub(crate) fn begin(
        recipe: &Recipe,
        group: &Arc<dyn Group>,
        learner: &GptLearner,
        resume: Option<&Checkpoint>,
    ) -> Result<Option<Self>, Error> {
        if !recipe.run.has_local_steps() {
            return Ok(None);
        }
        let parameters = learner.parameters();
        let start = values(&parameters.tensors)?;
        let saved = resume.map(Checkpoint::outer).transpose()?.flatten();
        let momentum = match saved {
            None => start.iter().map(|weights| vec![0.0; weights.len()]).collect(),
            Some(file) => {
                let reader = Reader::from_bytes(Bytes::from_bytes_vec(file)).map_err(RecordError::from)?;
                let tensors = reader.into_tensors().map_err(RecordError::from)?;
                let mut by_name: HashMap<_, _> =
                    tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
                let of = |(own, weights): (&burn_pack::Tensor, &Vec<f32>)| {
                    let found = by_name.remove(&own.name).filter(|found| found.shape == own.shape);
                    match found {
                        Some(found) => records::values(&found),
                        // A layer that was frozen until now.
                        None => Ok(vec![0.0; weights.len()]),
                    }
                };
                parameters.tensors.iter().zip(&start).map(of).collect::<Result<_, _>>()?
            }
        };
        let precision = recipe.run.exchange_precision();
        Ok(Some(Self { group: group.clone(), precision, start, momentum, is_synchronised: true }))
    }

    /// The momentum, for a checkpoint.
    pub(crate) fn record(&self, learner: &GptLearner) -> Writer {
        let with_momentum = |(tensor, momentum): (burn_pack::Tensor, &Vec<f32>)| {
            records::with_values(&tensor, momentum.clone())
        };
        Writer::new(learner.parameters().tensors.into_iter().zip(&self.momentum).map(with_momentum).collect())
    }

    /// Whether all ranks have the same weights and states.
    pub(crate) fn is_synchronised(&self) -> bool {
        self.is_synchronised
    }

    /// Notes that the rank has taken a step by itself.
    pub(crate) fn step(&mut self) {
        self.is_synchronised = false;
    }

    /// Takes an outer step, and averages the optimizer states. Returns how long this rank had to wait for others.
    ///
    /// # Errors
    ///
    /// If another rank has failed.
    pub(crate) fn synchronise(&mut self, learner: &mut GptLearner) -> Result<Duration, Error> {
        let parameters = learner.parameters();
        let mut moved = values(&parameters.tensors)?;
        for (moved, start) in moved.iter_mut().zip(&self.start) {
            moved.iter_mut().zip(start).for_each(|(weight, start)| *weight = start - *weight);
        }
        let mut waited = Duration::ZERO;
        let moved = average(&*self.group, moved, self.precision, &mut waited)?;
        for ((start, momentum), moved) in self.start.iter_mut().zip(&mut self.momentum).zip(&moved) {
            outer_step(start, momentum, moved);
        }
        let ids = parameters.names.iter().map(|(id, _)| *id);
        learner.assign(weights(&learner.model().valid(), ids.zip(&self.start).collect()));
        if self.group.size() > 1 {
            learner.map_states(|states| average(&*self.group, states, self.precision, &mut waited))?;
        }
        self.is_synchronised = true;
        Ok(waited)
    }
}

/// SGD with Nesterov momentum, as in PyTorch without dampening: `m ← μ m + g`, `w ← w - η (g + μ m)`.
fn outer_step(weights: &mut [f32], momentum: &mut [f32], gradient: &[f32]) {
    for ((weight, momentum), gradient) in weights.iter_mut().zip(momentum).zip(gradient) {
        *momentum = OUTER_MOMENTUM * *momentum + gradient;
        *weight -= OUTER_RATE * (gradient + OUTER_MOMENTUM * *momentum);
    }
}

fn values(tensors: &[burn_pack::Tensor]) -> Result<Vec<Vec<f32>>, Error> {
    tensors.iter().map(records::values).collect()
}

/// The mean of each vector over all ranks. Adds the time spent waiting.
fn average(
    group: &dyn Group,
    vectors: Vec<Vec<f32>>,
    precision: Precision,
    waited: &mut Duration,
) -> Result<Vec<Vec<f32>>, Error> {
    let lens: Vec<usize> = vectors.iter().map(Vec::len).collect();
    let (mut pending, mut bucket) = (Vec::new(), Vec::new());
    for vector in vectors {
        for part in vector.chunks(EXCHANGE_LEN_MAX) {
            if bucket.len() + part.len() > EXCHANGE_LEN_MAX {
                pending.push(group.start_mean(mem::take(&mut bucket), precision));
            }
            bucket.extend_from_slice(part);
        }
    }
    pending.push(group.start_mean(bucket, precision));

    let began = Instant::now();
    let mut means = Vec::new();
    for part in pending {
        means.push(part.wait()?.into_iter());
    }
    *waited += began.elapsed();
    let mut all = means.into_iter().flatten();
    Ok(lens.into_iter().map(|len| all.by_ref().take(len).collect()).collect())
}

/// Weights in the shapes of their parameters, each as its parameter's gradient.
fn weights<M: Module>(module: &M, values: HashMap<ParamId, &Vec<f32>>) -> GradientsParams {
    struct Shape<'a> {
        values: HashMap<ParamId, &'a Vec<f32>>,
        weights: GradientsParams,
    }
    impl ModuleVisitor for Shape<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(values) = self.values.remove(&param.id) {
                let shape = param.val().shape();
                let weights = tensor(values.clone(), &param.val().device()).reshape(shape);
                self.weights.register::<D>(param.id, weights);
            }
        }
    }
    let mut shape = Shape { values, weights: GradientsParams::new() };
    module.visit(&mut shape);
    shape.weights
}

#[cfg(test)]
mod tests {
    use std::thread;

    use model::GptConfig;
    use ranks::Threads;

    use super::*;
    use crate::{batches::TokenBatch, optimizer_command::Scale, preset};

    #[test]
    fn an_outer_step_is_nesterovs() {
        // From rest, with gradients 1, -2 and 3: m = 1, -1.5, 2.25; each w falls by 0.7 (g + 0.5 m).
        let (mut weights, mut momentum) = (vec![0.5f32], vec![0.0f32]);
        let (mut expected, mut m) = (0.5f64, 0.0f64);
        for gradient in [1.0f32, -2.0, 3.0] {
            outer_step(&mut weights, &mut momentum, &[gradient]);
            let gradient = f64::from(gradient);
            m = 0.5 * m + gradient;
            expected -= 0.7 * (gradient + 0.5 * m);
        }
        assert!((m - 2.25).abs() < 1e-9, "{m}");
        assert!((f64::from(momentum[0]) - m).abs() < 1e-6, "{momentum:?}");
        assert!((f64::from(weights[0]) - expected).abs() < 1e-6, "{weights:?} {expected}");
    }

    /// The weights of a learner, and its snapshot.
    fn state(learner: &mut GptLearner) -> (Vec<Vec<f32>>, [Vec<u8>; 2]) {
        let weights = values(&learner.parameters().tensors).unwrap();
        let snapshot = learner.snapshot();
        (weights, [snapshot.model, snapshot.optimizer].map(|file| file.into_bytes().unwrap().to_vec()))
    }

    #[test]
    fn a_synchronisation_makes_ranks_equal_by_an_outer_step() {
        let device = kernels::testing::test_device().autodiff();
        for kind in ["adamw", "muon"] {
            let sets = [format!("optimizer.kind={kind}"), "run.sync_interval=20".to_owned()];
            let recipe = Recipe::parse(preset("debug").unwrap(), &sets).unwrap();
            let recipe = Recipe { model: GptConfig { vocab_size: 7, ..recipe.model }, ..recipe };
            let work = |group: Threads| {
                let model = recipe.model.init(1, &kernels::testing::test_device()).unwrap();
                let mut learner = GptLearner::new(model, &recipe, Arc::new(|_| 1e-2), 0);
                let group: Arc<dyn Group> = Arc::new(group);
                let mut local = LocalSteps::begin(&recipe, &group, &learner, None).unwrap().unwrap();
                let mut results = Vec::new();
                for round in 0..2 {
                    let first = i64::try_from(group.index()).unwrap() + round;
                    let ids = Tensor::<2, Int>::from_data([[first, 1, 2, 3], [3, 2, 4, first]], &device);
                    for _ in 0..3 {
                        let output = learner.train_step(TokenBatch::of_windows(ids.clone(), ids.clone()));
                        learner.optimizer_step(output.grads, Scale::Known(1.0));
                    }
                    let before = state(&mut learner);
                    local.synchronise(&mut learner).unwrap();
                    results.push((before, state(&mut learner)));
                }
                group.finish().unwrap();
                results
            };
            let [first, second] = thread::scope(|scope| {
                let ranks = <[Threads; 2]>::try_from(Threads::group(2)).unwrap();
                ranks.map(|group| scope.spawn(|| work(group))).map(|rank| rank.join().unwrap())
            });
            let model = recipe.model.init(1, &kernels::testing::test_device()).unwrap();
            let mut learner = GptLearner::new(model, &recipe, Arc::new(|_| 1e-2), 0);
            let mut start: Vec<f64> = state(&mut learner).0.concat().into_iter().map(f64::from).collect();
            let mut momentum = vec![0.0; start.len()];
            for ((before, after), (other_before, other_after)) in first.into_iter().zip(second) {
                assert!(before.1 != other_before.1, "{kind}: ranks differ before");
                assert!(after == other_after, "{kind}: ranks are equal after");
                assert!(after.1[1] != before.1[1] && after.1[1] != other_before.1[1], "{kind}: states");
                let both = before.0.concat().into_iter().zip(other_before.0.concat());
                for (((start, m), (a, b)), got) in
                    start.iter_mut().zip(&mut momentum).zip(both).zip(after.0.concat())
                {
                    let gradient = *start - f64::from(a).midpoint(f64::from(b));
                    *m = 0.5 * *m + gradient;
                    *start -= 0.7 * (gradient + 0.5 * *m);
                    assert!((f64::from(got) - *start).abs() < 1e-6, "{kind}: {got} {start}");
                }
            }
        }
    }

    #[test]
    fn vectors_are_averaged_in_parts_of_any_length() {
        let lens = [3, EXCHANGE_LEN_MAX - 1, 0, EXCHANGE_LEN_MAX + 5];
        let work = |group: Threads| {
            let scale = if group.index() == 0 { 1.0 } else { 3.0 };
            let vectors = lens.iter().map(|len| (0..*len).map(|idx| scale * (idx % 7) as f32).collect());
            let mut waited = Duration::ZERO;
            let means = average(&group, vectors.collect(), Precision::F32, &mut waited).unwrap();
            assert!(waited > Duration::ZERO);
            assert_eq!(means.iter().map(Vec::len).collect::<Vec<_>>(), lens);
            for mean in means {
                assert!(mean.iter().enumerate().all(|(idx, mean)| *mean == 2.0 * (idx % 7) as f32));
            }
        };
        thread::scope(|scope| {
            Threads::group(2).into_iter().for_each(|group| drop(scope.spawn(|| work(group))));
        });
    }
}
