//! How much memory a run will take.

use crate::Recipe;

const BYTES_PER_NUMBER: u64 = 4;

/// How much more than a block keeps for the way back is in use at a time on it.
const IN_USE: [usize; 2] = [11, 8];

/// The most logits that are computed at a time, forward and backward, in bytes.
const LOGITS: u64 = 2 * (64 << 20);

/// The program itself, its caches and its threads' buffers, in bytes.
const PROGRAM: u64 = 64 << 20;

/// An estimate of the most memory that training by a recipe takes, in bytes: weights, gradients, both moments, the copy
/// that is on its way to disk, and activations.
///
/// It is for the fused kernels on the CPU, and within about a third of what was measured there.
pub fn estimate_memory(recipe: &Recipe) -> u64 {
    let config = &recipe.model;
    let n_params = config.n_params() as u64;
    // Weight, gradient and two moments; without the gradient once more while a checkpoint is written.
    let state = (4 + 3) * n_params * BYTES_PER_NUMBER;
    let product = |factors: [usize; 4]| {
        factors.into_iter().fold(BYTES_PER_NUMBER, |product, factor| product.saturating_mul(factor as u64))
    };
    let tokens = recipe.optimizer.batch_size.get().saturating_mul(config.block_size);
    // Of each token: the inputs of both norms and of the four products, the slopes of the activation, and what is around
    // the blocks.
    let [queries, keys, values] = config.qkv_widths();
    let kept = 4 * config.n_embd + 2 * queries + keys + values + config.expanded_width() + config.n_inner();
    let kept = kept.saturating_mul(config.n_layer) / IN_USE[1] * IN_USE[0];
    let activations = product([tokens, kept.saturating_add(4 * config.n_embd), 1, 1]);
    let logits = product([tokens, config.vocab_size, 2, 1]).min(LOGITS);
    [state, activations, logits].into_iter().fold(PROGRAM, u64::saturating_add)
}
