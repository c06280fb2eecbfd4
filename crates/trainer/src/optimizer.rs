//! AdamW with GPT's decay groups, and Muon for the matrices of the blocks.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use burn::{
    module::ParamGroup,
    optim::{
        AdamWState, AdaptiveMomentumState, LearningRate, ModuleOptimizer, Optimizer, RecordState, StateSink,
        StateSource,
    },
    prelude::*,
};
use kernels::{AdamWStep, MuonStep};
use model::{Activation, GptConfig};

use crate::{OptimizerKind, OptimizerRecipe};

/// What AdamW adds to the root of the second moment, as PyTorch has it.
const EPSILON: f32 = 1e-8;

/// Muon's learning rate and momentum where a recipe has none, as its author has them.
const MUON_LEARNING_RATE: f64 = 0.02;
const MUON_MOMENTUM: f32 = 0.95;

/// Parameters that are vectors: the biases of linear layers, the gains and offsets of norms. They do not
/// decay; matrices and embeddings do.
const VECTORS: &str = r"\.(bias|gamma|beta)$";

/// The matrices of the blocks: those whose output goes to the residual stream, those of queries, keys and values side by
/// side, and those that make the hidden layer.
const PROJECTIONS: &str = r"\bblocks\..*\.project\.weight$";
const QKV: &str = r"\bblocks\..*\.qkv\.weight$";
const EXPANSIONS: &str = r"\bblocks\..*\.expand\.weight$";

/// What the gradients of the next step are multiplied with. The loop knows it and the optimizer does it, in its own pass
/// over the gradients; between them is Burn, which passes on a learning rate and nothing else.
#[derive(Debug, Clone)]
pub(crate) struct GradientScale(Arc<AtomicU32>);

impl GradientScale {
    fn one() -> Self {
        Self(Arc::new(AtomicU32::new(1_f32.to_bits())))
    }

    #[expect(clippy::cast_possible_truncation, reason = "gradients are f32")]
    pub(crate) fn set(&self, scale: f64) {
        self.0.store((scale as f32).to_bits(), Ordering::Relaxed);
    }

    fn get(&self) -> f32 {
        f32::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// The optimizer that a recipe asks for, and how it is told to scale gradients. The learning rate comes with each step.
pub(crate) fn optimizer(recipe: &OptimizerRecipe, model: &GptConfig) -> (ModuleOptimizer, GradientScale) {
    let OptimizerRecipe { beta_1, beta_2, weight_decay, .. } = *recipe;
    let group = |pattern| ParamGroup::from_regex(pattern).expect("the pattern is a regular expression");
    let gradient_scale = GradientScale::one();
    let decaying = AdamW { beta_1, beta_2, weight_decay, gradient_scale: gradient_scale.clone() };
    let steady = AdamW { weight_decay: 0.0, ..decaying.clone() };
    let adamw = ModuleOptimizer::from(decaying).with_group(group(VECTORS), steady, None);
    let optimizer = match recipe.kind {
        OptimizerKind::AdamW => adamw,
        OptimizerKind::Muon => {
            let muon = |widths: &[usize]| Muon {
                rate_ratio: recipe.muon_learning_rate.unwrap_or(MUON_LEARNING_RATE) / recipe.learning_rate,
                momentum: recipe.muon_momentum.unwrap_or(MUON_MOMENTUM),
                weight_decay: recipe.muon_weight_decay.unwrap_or(0.0),
                widths: widths.into(),
                gradient_scale: gradient_scale.clone(),
            };
            let hidden = model.n_inner();
            let expansion = match model.activation {
                Activation::Swiglu => muon(&[hidden, hidden]),
                Activation::Gelu | Activation::GeluTanh | Activation::Relu2 => muon(&[hidden]),
            };
            adamw
                .with_group(group(PROJECTIONS), muon(&[model.n_embd]), None)
                .with_group(group(QKV), muon(&model.qkv_widths()), None)
                .with_group(group(EXPANSIONS), expansion, None)
        }
    };
    (optimizer, gradient_scale)
}

/// AdamW by way of the kernels: one pass over a parameter where Burn's own takes a dozen. Its state is the
/// state of Burn's, so either goes on from a checkpoint of the other.
#[derive(Debug, Clone)]
struct AdamW {
    beta_1: f32,
    beta_2: f32,
    weight_decay: f32,
    gradient_scale: GradientScale,
}

impl Optimizer for AdamW {
    type State<const D: usize> = AdamWState<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<AdamWState<D>>,
    ) -> (Tensor<D>, Option<AdamWState<D>>) {
        let zeros = || AdaptiveMomentumState::new(0, tensor.zeros_like(), tensor.zeros_like());
        let AdaptiveMomentumState { time, moment_1, moment_2, .. } =
            state.map_or_else(zeros, |state| state.momentum);
        let step = AdamWStep {
            learning_rate,
            beta_1: self.beta_1,
            beta_2: self.beta_2,
            epsilon: EPSILON,
            weight_decay: self.weight_decay,
            time: i32::try_from(time + 1).expect("a run has fewer than 2^31 steps"),
            gradient_scale: self.gradient_scale.get(),
        };
        let (tensor, [moment_1, moment_2]) = kernels::adamw(&step, tensor, grad, [moment_1, moment_2]);
        let momentum = AdaptiveMomentumState::new(time + 1, moment_1, moment_2);
        (tensor, Some(AdamWState { momentum }))
    }

    fn to_device<const D: usize>(mut state: AdamWState<D>, device: &Device) -> AdamWState<D> {
        state.momentum = state.momentum.to_device(device);
        state
    }
}

/// Muon by way of the kernels.
#[derive(Debug, Clone)]
struct Muon {
    /// Its learning rate as a multiple of the one that comes with each step.
    rate_ratio: f64,
    momentum: f32,
    weight_decay: f32,
    /// The columns of each matrix of those that lie side by side in one.
    widths: Arc<[usize]>,
    gradient_scale: GradientScale,
}

/// What Muon keeps of a matrix.
#[derive(Clone)]
struct MuonState<const D: usize> {
    /// The mean of its gradients.
    mean: Tensor<D>,
}

/// The derive for this works in Burn's own crate only.
impl<const D: usize> RecordState for MuonState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_tensor(prefix, "mean", self.mean.to_data());
    }

    fn state_unflatten(prefix: &str, source: &mut StateSource, device: &Device) -> Option<Self> {
        let mean = source.take_tensor(prefix, "mean")?;
        Some(Self { mean: Tensor::from_data(mean, device) })
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
        let mean = state.map_or_else(|| tensor.zeros_like(), |state| state.mean);
        let step = MuonStep {
            learning_rate: self.rate_ratio * learning_rate,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            widths: self.widths.to_vec(),
            gradient_scale: self.gradient_scale.get(),
        };
        let shape = tensor.dims();
        let [n_in, n_out] = [shape[0], shape[D - 1]]; // It is given matrices only.
        let [tensor, grad, mean] = [tensor, grad, mean].map(|it| it.reshape([n_in, n_out]));
        let (tensor, mean) = kernels::muon(&step, tensor, grad, mean);
        (tensor.reshape(shape), Some(MuonState { mean: mean.reshape(shape) }))
    }

    fn to_device<const D: usize>(mut state: MuonState<D>, device: &Device) -> MuonState<D> {
        state.mean = state.mean.to_device(device);
        state
    }
}
