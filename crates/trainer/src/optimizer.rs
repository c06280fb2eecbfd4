//! AdamW with GPT's decay groups.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use burn::{
    module::ParamGroup,
    optim::{AdamWState, AdaptiveMomentumState, LearningRate, ModuleOptimizer, Optimizer},
    prelude::*,
};
use kernels::AdamWStep;

use crate::OptimizerRecipe;

/// What AdamW adds to the root of the second moment, as PyTorch has it.
const EPSILON: f32 = 1e-8;

/// Parameters that are vectors: the biases of linear layers, the gains and offsets of norms. They do not
/// decay; matrices and embeddings do.
const VECTORS: &str = r"\.(bias|gamma|beta)$";

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
pub(crate) fn adamw(recipe: &OptimizerRecipe) -> (ModuleOptimizer, GradientScale) {
    let OptimizerRecipe { beta_1, beta_2, weight_decay, .. } = *recipe;
    let vectors = ParamGroup::from_regex(VECTORS).expect("the pattern is a regular expression");
    let gradient_scale = GradientScale::one();
    let decaying = AdamW { beta_1, beta_2, weight_decay, gradient_scale: gradient_scale.clone() };
    let steady = AdamW { weight_decay: 0.0, ..decaying.clone() };
    (ModuleOptimizer::from(decaying).with_group(vectors, steady, None), gradient_scale)
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
