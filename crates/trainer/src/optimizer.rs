//! AdamW with GPT's decay groups.

use burn::{
    module::ParamGroup,
    optim::{AdamWConfig, ModuleOptimizer},
};

use crate::OptimizerRecipe;

/// What AdamW adds to the root of the second moment, as PyTorch has it.
const EPSILON: f32 = 1e-8;

/// Parameters that are vectors: the biases of linear layers, the gains and offsets of norms. They do not
/// decay; matrices and embeddings do.
const VECTORS: &str = r"\.(bias|gamma|beta)$";

/// The optimizer that a recipe asks for. The learning rate comes with each step.
pub(crate) fn adamw(recipe: &OptimizerRecipe) -> ModuleOptimizer {
    let config = AdamWConfig::new()
        .with_beta_1(recipe.beta_1)
        .with_beta_2(recipe.beta_2)
        .with_epsilon(EPSILON)
        .with_weight_decay(recipe.weight_decay);
    let vectors = ParamGroup::from_regex(VECTORS).expect("the pattern is a regular expression");
    config.init().with_group(vectors, config.with_weight_decay(0.0).build(), None)
}
