//! AdamW with GPT's decay groups, and Muon for the matrices of the blocks.

use std::sync::Arc;

use burn::{
    module::ParamGroup,
    optim::{
        AdamWState, AdaptiveMomentumState, LearningRate, ModuleOptimizer, Optimizer, RecordState, StateSink,
        StateSource,
    },
    prelude::*,
};
use burn_pack::Scalar;
use kernels::{AdamWStep, MuonStep};
use model::{Activation, GptConfig};

use crate::{
    OptimizerKind, OptimizerRecipe,
    order::{Orders, ParameterState, Scale, ScaleOnDevice},
    records::deferred,
};

/// What AdamW adds to the root of the second moment, as PyTorch has it.
const EPSILON: f32 = 1e-8;

/// Muon's momentum where a recipe has none, as its author has it.
const MUON_MOMENTUM: f32 = 0.95;

/// Parameters that are vectors: the biases of linear layers, the gains and offsets of norms. They do not
/// decay; matrices and embeddings do.
const VECTORS: &str = r"\.(bias|gamma|beta)$";

/// The matrices of the blocks: those whose output goes to the residual stream, those of queries, keys and values one below
/// the other, and those that make the hidden layer.
const PROJECTIONS: &str = r"\bblocks\..*\.project\.weight$";
const QKV: &str = r"\bblocks\..*\.qkv\.weight$";
const EXPANSIONS: &str = r"\bblocks\..*\.expand\.weight$";

/// What `step` makes of a gradient, and a factor of it, and of what there was before; or that again if the step is skipped.
fn scaled<const D: usize, const N: usize>(
    scale: Scale,
    gradient: Tensor<D>,
    before: [Tensor<D>; N],
    step: impl FnOnce(f32, Tensor<D>, [Tensor<D>; N]) -> [Tensor<D>; N],
) -> [Tensor<D>; N] {
    let ScaleOnDevice { scale, is_skipped } = match scale {
        Scale::Known(factor) => return step(factor, gradient, before),
        Scale::Skipped => return before,
        Scale::OnDevice(scale) => *scale,
    };
    let is_skipped = is_skipped.reshape([1; D]).expand(gradient.dims());
    let mut after = step(1.0, gradient * scale.reshape([1; D]), before.clone());
    for (after, before) in after.iter_mut().zip(before) {
        *after = after.clone().mask_where(is_skipped.clone(), before);
    }
    after
}

/// The optimizer that a recipe asks for. The learning rate comes with each step, and all else by its orders.
pub(crate) fn optimizer(recipe: &OptimizerRecipe, model: &GptConfig, orders: &Orders) -> ModuleOptimizer {
    let OptimizerRecipe { beta_1, beta_2, weight_decay, .. } = *recipe;
    let group = |pattern| ParamGroup::from_regex(pattern).expect("the pattern is a regular expression");
    let decaying = AdamW { beta_1, beta_2, weight_decay, orders: orders.clone() };
    let steady = AdamW { weight_decay: 0.0, ..decaying.clone() };
    let adamw = ModuleOptimizer::from(decaying).with_group(group(VECTORS), steady, None);
    match recipe.kind {
        OptimizerKind::AdamW => adamw,
        OptimizerKind::Muon => {
            let muon = |heights: &[usize]| Muon {
                rate_ratio: recipe.muon_ratio(),
                momentum: recipe.muon_momentum.unwrap_or(MUON_MOMENTUM),
                weight_decay: recipe.muon_weight_decay.unwrap_or(0.0),
                heights: heights.into(),
                orders: orders.clone(),
            };
            let hidden = model.n_inner();
            let expansion = match model.feed_forward.activation {
                Activation::Swiglu => muon(&[hidden, hidden]),
                Activation::Gelu | Activation::GeluTanh | Activation::Relu2 => muon(&[hidden]),
            };
            adamw
                .with_group(group(PROJECTIONS), muon(&[model.n_embd]), None)
                .with_group(group(QKV), muon(&model.qkv_widths()), None)
                .with_group(group(EXPANSIONS), expansion, None)
        }
    }
}

/// AdamW by way of the kernels: one pass over a parameter where Burn's own takes a dozen. Its state is the state of
/// Burn's, so either can resume a checkpoint of the other.
///
/// A skipped step counts in the correction of the moments for their start at zero, on every device: a GPU skips steps that
/// the host has not read yet, and so could not leave out of the count.
#[derive(Debug, Clone)]
struct AdamW {
    beta_1: f32,
    beta_2: f32,
    weight_decay: f32,
    orders: Orders,
}

/// What AdamW keeps of a parameter, as Burn's own keeps it.
#[derive(Clone)]
struct Moments<const D: usize>(AdamWState<D>);

/// Where state is put that is read from a checkpoint, until the step that needs it takes it to its parameter. Burn would have it
/// on the default device, which is a GPU where a backend for one is compiled in, whether there is one or not.
fn device_of_records() -> Device {
    Device::flex()
}

impl<const D: usize> Moments<D> {
    /// As [`RecordState::state_flatten`], with tensors that are read when they are written.
    fn hand_over(&self) -> ParameterState {
        let AdaptiveMomentumState { time, moment_1, moment_2, .. } = self.0.momentum.clone();
        ParameterState {
            rank: D,
            tensors: vec![
                ("momentum.moment_1", deferred(moment_1)),
                ("momentum.moment_2", deferred(moment_2)),
            ],
            scalars: vec![("momentum.time", Scalar::from(time))],
        }
    }
}

impl<const D: usize> RecordState for Moments<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        self.0.state_flatten(prefix, out);
    }

    fn state_unflatten(prefix: &str, source: &mut StateSource, _default: &Device) -> Option<Self> {
        AdamWState::state_unflatten(prefix, source, &device_of_records()).map(Self)
    }
}

impl Optimizer for AdamW {
    type State<const D: usize> = Moments<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Moments<D>>,
    ) -> (Tensor<D>, Option<Moments<D>>) {
        let Some(scale) = self.orders.scale_or_hand_over(|| state.as_ref().map(Moments::hand_over)) else {
            return (tensor, state);
        };
        let zeros = || AdaptiveMomentumState::new(0, tensor.zeros_like(), tensor.zeros_like());
        let AdaptiveMomentumState { time, moment_1, moment_2, .. } =
            state.map_or_else(zeros, |Moments(state)| state.momentum);
        let step = AdamWStep {
            learning_rate,
            beta_1: self.beta_1,
            beta_2: self.beta_2,
            epsilon: EPSILON,
            weight_decay: self.weight_decay,
            time: i32::try_from(time + 1).expect("a run has fewer than 2^31 steps"),
            gradient_scale: 1.0,
        };
        let before = [tensor, moment_1, moment_2];
        let [tensor, moment_1, moment_2] =
            scaled(scale, grad, before, |gradient_scale, grad, [tensor, first, second]| {
                let step = AdamWStep { gradient_scale, ..step };
                let (tensor, [first, second]) = kernels::adamw(&step, tensor, grad, [first, second]);
                [tensor, first, second]
            });
        let momentum = AdaptiveMomentumState::new(time + 1, moment_1, moment_2);
        (tensor, Some(Moments(AdamWState { momentum })))
    }

    fn to_device<const D: usize>(Moments(state): Moments<D>, device: &Device) -> Moments<D> {
        Moments(AdamWState { momentum: state.momentum.to_device(device) })
    }
}

/// Muon by way of the kernels.
#[derive(Debug, Clone)]
struct Muon {
    /// Its learning rate as a multiple of the one that comes with each step.
    rate_ratio: f64,
    momentum: f32,
    weight_decay: f32,
    /// The rows of each matrix of those that lie one below the other in one.
    heights: Arc<[usize]>,
    orders: Orders,
}

/// What Muon keeps of a matrix.
#[derive(Clone)]
struct MuonState<const D: usize> {
    /// The mean of its gradients.
    mean: Tensor<D>,
}

impl<const D: usize> MuonState<D> {
    /// As [`RecordState::state_flatten`], with a tensor that is read when it is written.
    fn hand_over(&self) -> ParameterState {
        ParameterState { rank: D, tensors: vec![("mean", deferred(self.mean.clone()))], scalars: Vec::new() }
    }
}

/// The derive for this works in Burn's own crate only.
impl<const D: usize> RecordState for MuonState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_tensor(prefix, "mean", self.mean.to_data());
    }

    fn state_unflatten(prefix: &str, source: &mut StateSource, _default: &Device) -> Option<Self> {
        let mean = source.take_tensor(prefix, "mean")?;
        Some(Self { mean: Tensor::from_data(mean, &device_of_records()) })
    }
}

impl Optimizer for Muon {
    type State<const D: usize> = MuonState<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<MuonState<D>>,
    ) -> (Tensor<D>, Option<MuonState<D>>) {
        let Some(scale) = self.orders.scale_or_hand_over(|| state.as_ref().map(MuonState::hand_over)) else {
            return (tensor, state);
        };
        let mean = state.map_or_else(|| tensor.zeros_like(), |state| state.mean);
        let step = MuonStep {
            learning_rate: self.rate_ratio * learning_rate,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            heights: self.heights.to_vec(),
            gradient_scale: 1.0,
        };
        let shape = tensor.dims();
        let matrix = [shape[0], shape[D - 1]]; // It is given matrices only.
        let [tensor, grad, mean] = [tensor, grad, mean].map(|it| it.reshape(matrix));
        let [tensor, mean] = scaled(scale, grad, [tensor, mean], |gradient_scale, grad, [tensor, mean]| {
            let (tensor, mean) = kernels::muon(&MuonStep { gradient_scale, ..step }, tensor, grad, mean);
            [tensor, mean]
        });
        (tensor.reshape(shape), Some(MuonState { mean: mean.reshape(shape) }))
    }

    fn to_device<const D: usize>(mut state: MuonState<D>, device: &Device) -> MuonState<D> {
        state.mean = state.mean.to_device(device);
        state
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tolerance;

    use super::*;

    /// What weights come to by steps of these scales.
    fn after(optimizer: &impl Optimizer, orders: &Orders, scales: &[Scale]) -> TensorData {
        let device = kernels::testing::test_device();
        let mut x = Tensor::<2>::from_floats([[0.5, -1.0, 2.0], [0.25, 3.0, -0.5]], &device);
        let mut state = None;
        for (idx, scale) in scales.iter().enumerate() {
            let grad = x.clone() * 2.0 + idx as f32;
            orders.set_scale(scale.clone());
            (x, state) = optimizer.step(0.1, x, grad, state);
        }
        x.into_data()
    }

    #[test]
    fn a_scale_on_the_device_is_the_scale_and_nan_skips_the_step_as_on_the_host() {
        let orders = Orders::new();
        let adamw = AdamW { beta_1: 0.9, beta_2: 0.99, weight_decay: 0.1, orders: orders.clone() };
        check(&adamw, &orders);
        let heights = [2].into();
        let muon =
            Muon { rate_ratio: 1.0, momentum: 0.9, weight_decay: 0.1, heights, orders: orders.clone() };
        check(&muon, &orders);
    }

    fn check(optimizer: &impl Optimizer, orders: &Orders) {
        let device = kernels::testing::test_device();
        let there = |scale: f32| Scale::on_device(Tensor::from_floats([scale], &device));
        let after = |scales: &[Scale]| after(optimizer, orders, scales);
        let close = Tolerance::absolute(kernels::testing::test_tolerance(1e-6));
        let known = after(&[0.5, 0.25, 1.0].map(Scale::Known));
        after(&[0.5, 0.25, 1.0].map(there)).assert_approx_eq::<f32>(&known, close);

        let before = after(&[there(0.5), there(0.25)]);
        let undone = after(&[there(0.5), there(0.25), there(f32::NAN)]);
        assert_eq!(undone, before);
        assert_ne!(undone, known);
        // Its moments are undone as well: the next one is a finite step. It is the step of the host, which counts alike.
        for skipped in 0..3 {
            let scales = |kept: &dyn Fn(f32) -> Scale, skip: Scale| {
                let mut scales = vec![kept(0.5), kept(0.25), kept(1.0)];
                scales[skipped] = skip;
                after(&scales)
            };
            let here = scales(&Scale::Known, Scale::Skipped);
            assert!(here.iter::<f32>().all(f32::is_finite), "{here:?}");
            scales(&there, there(f32::NAN)).assert_approx_eq::<f32>(&here, close);
            assert_ne!(here, known);
        }
    }
}
