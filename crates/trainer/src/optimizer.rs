//! AdamW with GPT-2's weight-decay groups, and Muon for the matrices of the blocks.

use std::sync::Arc;

use burn::{
    module::{ParamGroup, ParamId},
    optim::{
        AdamWState, AdaptiveMomentumState, LearningRate, ModuleOptimizer, Optimizer, RecordState, StateSink,
        StateSource,
    },
    prelude::*,
};
use burn_pack::Scalar;
use kernels::{AdamWStep, MuonStep, MuonUpdate};
use model::{Activation, GptConfig};

use crate::{
    OptimizerKind, OptimizerRecipe,
    optimizer_command::{Action, CommandCell, ParameterState, Scale, UpdatedMatrix},
    records::deferred,
};

/// AdamW's epsilon, as in PyTorch.
const EPSILON: f32 = 1e-8;

/// Muon's default momentum, as in its reference implementation.
const MUON_MOMENTUM: f32 = 0.95;

/// Parameters without weight decay: biases of linear layers, scales and offsets of norms.
const NO_DECAY: &str = r"\.(bias|gamma|beta)$";

/// The matrices of the blocks, for Muon: projections to the residual stream, the stacked queries, keys and values, and
/// the expansions to the hidden layer.
const PROJECTIONS: &str = r"\bblocks\..*\.project\.weight$";
const QKV: &str = r"\bblocks\..*\.qkv\.weight$";
const EXPANSIONS: &str = r"\bblocks\..*\.expand\.weight$";

/// Whether Muon updates the parameter with this path.
pub(crate) fn uses_muon(kind: OptimizerKind, path: &str) -> bool {
    let matches = |pattern| group(pattern).matches(&ParamId::from(0), Some(path));
    kind == OptimizerKind::Muon && [PROJECTIONS, QKV, EXPANSIONS].into_iter().any(matches)
}

/// The parameters whose path matches.
fn group(pattern: &str) -> ParamGroup {
    ParamGroup::from_regex(pattern).expect("the pattern is a regular expression")
}

/// Updates the parameters that a step has collected.
pub(crate) fn update_collected(collected: Vec<MuonUpdate>, scale: &Scale) -> Vec<UpdatedMatrix> {
    let on_device = match scale {
        Scale::OnDevice(scale) => Some(&**scale),
        Scale::Known(_) | Scale::Skipped => None, // `MuonStep::gradient_scale` has it.
    };
    kernels::muon_together(collected, on_device)
}

/// The optimizer of a recipe. Burn passes the learning rate with each step; scales and snapshots come through
/// `commands`.
pub(crate) fn optimizer(
    recipe: &OptimizerRecipe,
    model: &GptConfig,
    commands: &CommandCell,
) -> ModuleOptimizer {
    let OptimizerRecipe { beta_1, beta_2, weight_decay, .. } = *recipe;
    let decay = AdamW { beta_1, beta_2, weight_decay, commands: commands.clone() };
    let no_decay = AdamW { weight_decay: 0.0, ..decay.clone() };
    let adamw = ModuleOptimizer::from(decay).with_group(group(NO_DECAY), no_decay, None);
    match recipe.kind {
        OptimizerKind::AdamW => adamw,
        OptimizerKind::Muon => {
            let muon = |heights: &[usize]| Muon {
                rate_ratio: recipe.muon_ratio(),
                momentum: recipe.muon_momentum.unwrap_or(MUON_MOMENTUM),
                weight_decay: recipe.muon_weight_decay.unwrap_or(0.0),
                heights: heights.into(),
                commands: commands.clone(),
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

/// AdamW on the fused kernels: one pass over a parameter, where Burn's takes about twelve. Its state has Burn's format,
/// so either can resume a checkpoint of the other.
///
/// Skipped steps count in the bias correction of the moments on every device: a GPU skips steps before the host knows,
/// so it could not exclude them.
#[derive(Debug, Clone)]
struct AdamW {
    beta_1: f32,
    beta_2: f32,
    weight_decay: f32,
    commands: CommandCell,
}

/// AdamW's state of a parameter, in Burn's format.
#[derive(Clone)]
struct Moments<const D: usize>(AdamWState<D>);

/// The device of loaded state until the first step moves it to its parameter's device. Burn's default device
/// would be a GPU if a GPU backend is compiled in, even without a GPU.
fn record_device() -> Device {
    Device::flex()
}

impl<const D: usize> Moments<D> {
    /// Like [`RecordState::state_flatten`], with tensors that are read from the device when they are written.
    fn snapshot(&self) -> ParameterState {
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
        AdamWState::state_unflatten(prefix, source, &record_device()).map(Self)
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
        let scale = match self.commands.action(|| state.as_ref().map(Moments::snapshot)) {
            Action::Step(scale) => scale,
            Action::Restore | Action::Nothing => return (tensor, state),
            Action::Assign => return (grad, state),
            Action::Forget => return (tensor, None),
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
        let moments = [moment_1, moment_2];
        let (tensor, [moment_1, moment_2]) = match scale {
            Scale::Known(gradient_scale) => {
                kernels::adamw(&AdamWStep { gradient_scale, ..step }, tensor, grad, moments)
            }
            Scale::Skipped => (tensor, moments),
            Scale::OnDevice(scale) => kernels::adamw_on_device(&step, tensor, grad, moments, *scale),
        };
        let momentum = AdaptiveMomentumState::new(time + 1, moment_1, moment_2);
        (tensor, Some(Moments(AdamWState { momentum })))
    }

    fn to_device<const D: usize>(Moments(state): Moments<D>, device: &Device) -> Moments<D> {
        Moments(AdamWState { momentum: state.momentum.to_device(device) })
    }
}

/// Muon on the fused kernels. On GPUs, a step collects its matrices, so that those of one shape share launches.
#[derive(Debug, Clone)]
struct Muon {
    /// Muon's learning rate as a multiple of the one passed with each step.
    rate_ratio: f64,
    momentum: f32,
    weight_decay: f32,
    /// The row counts of the matrices that are stacked in one parameter.
    heights: Arc<[usize]>,
    commands: CommandCell,
}

/// Muon's state of a matrix.
#[derive(Clone)]
struct MuonState<const D: usize> {
    /// The momentum: a moving average of the gradients.
    mean: Tensor<D>,
}

impl<const D: usize> MuonState<D> {
    /// Like [`RecordState::state_flatten`], with a tensor that is read from the device when it is written.
    fn snapshot(&self) -> ParameterState {
        ParameterState { rank: D, tensors: vec![("mean", deferred(self.mean.clone()))], scalars: Vec::new() }
    }
}

/// By hand: Burn's derive macro works only inside Burn.
impl<const D: usize> RecordState for MuonState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_tensor(prefix, "mean", self.mean.to_data());
    }

    fn state_unflatten(prefix: &str, source: &mut StateSource, _default: &Device) -> Option<Self> {
        let mean = source.take_tensor(prefix, "mean")?;
        Some(Self { mean: Tensor::from_data(mean, &record_device()) })
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
        let shape = tensor.dims();
        let matrix = [shape[0], shape[D - 1]]; // Muon's groups have matrices only.
        let updated = |(x, mean): UpdatedMatrix| {
            assert_eq!(x.dims(), matrix, "the updated matrix is that of the parameter");
            (x.reshape(shape), Some(MuonState { mean: mean.reshape(shape) }))
        };
        let scale = match self.commands.action(|| state.as_ref().map(MuonState::snapshot)) {
            Action::Step(scale) => scale,
            Action::Restore => return updated(self.commands.next_updated()),
            Action::Nothing => return (tensor, state),
            Action::Assign => return (grad, state),
            Action::Forget => return (tensor, None),
        };
        let mean = state.map_or_else(|| tensor.zeros_like(), |state| state.mean);
        let gradient_scale = match scale {
            Scale::Known(scale) => Some(scale),
            Scale::OnDevice(_) => None, // `update_collected` applies it.
            Scale::Skipped => return (tensor, Some(MuonState { mean })),
        };
        let step = MuonStep {
            learning_rate: self.rate_ratio * learning_rate,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            heights: self.heights.to_vec(),
            gradient_scale: gradient_scale.unwrap_or(1.0),
        };
        let [x, gradient, mean] = [tensor.clone(), grad, mean].map(|it| it.reshape(matrix));
        if gradient_scale.is_some() && !kernels::muon_shares_launches(&x) {
            return updated(kernels::muon(&step, x, gradient, mean));
        }
        self.commands.collect(MuonUpdate { step, x, gradient, mean });
        (tensor, None)
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

    /// The weights after steps with these scales.
    fn after(optimizer: &impl Optimizer, commands: &CommandCell, scales: &[Scale]) -> TensorData {
        let device = kernels::testing::test_device();
        let mut x = Tensor::<2>::from_floats([[0.5, -1.0, 2.0], [0.25, 3.0, -0.5]], &device);
        let mut state = None;
        for (idx, scale) in scales.iter().enumerate() {
            let grad = x.clone() * 2.0 + idx as f32;
            let mut pass =
                |grad: &Tensor<2>| (x, state) = optimizer.step(0.1, x.clone(), grad.clone(), state.take());
            let collected = commands.step(scale.clone(), || pass(&grad));
            if !collected.is_empty() {
                commands.restore(update_collected(collected, scale), || pass(&grad));
            }
        }
        x.into_data()
    }

    #[test]
    fn scales_and_skips_agree_on_host_and_device() {
        let commands = CommandCell::default();
        let adamw = AdamW { beta_1: 0.9, beta_2: 0.99, weight_decay: 0.1, commands: commands.clone() };
        check(&adamw, &commands);
        let heights = [2].into();
        let muon =
            Muon { rate_ratio: 1.0, momentum: 0.9, weight_decay: 0.1, heights, commands: commands.clone() };
        check(&muon, &commands);
    }

    fn check(optimizer: &impl Optimizer, commands: &CommandCell) {
        let device = kernels::testing::test_device();
        let on_device = |scale: f32| Scale::on_device(Tensor::from_floats([scale], &device));
        let after = |scales: &[Scale]| after(optimizer, commands, scales);
        let close = Tolerance::absolute(kernels::testing::test_tolerance(1e-6));
        let known = after(&[0.5, 0.25, 1.0].map(Scale::Known));
        after(&[0.5, 0.25, 1.0].map(on_device)).assert_approx_eq::<f32>(&known, close);

        let before = after(&[on_device(0.5), on_device(0.25)]);
        let skipped_state = after(&[on_device(0.5), on_device(0.25), on_device(f32::NAN)]);
        assert_eq!(skipped_state, before);
        assert_ne!(skipped_state, known);
        // A skipped step leaves the moments unchanged too: the next step is finite, and equals the step on the host.
        for skipped in 0..3 {
            let scales = |kept: &dyn Fn(f32) -> Scale, skip: Scale| {
                let mut scales = vec![kept(0.5), kept(0.25), kept(1.0)];
                scales[skipped] = skip;
                after(&scales)
            };
            let on_host = scales(&Scale::Known, Scale::Skipped);
            assert!(on_host.iter::<f32>().all(f32::is_finite), "{on_host:?}");
            scales(&on_device, on_device(f32::NAN)).assert_approx_eq::<f32>(&on_host, close);
            assert_ne!(on_host, known);
        }
    }
}
