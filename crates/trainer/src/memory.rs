//! How much memory a run will take.

use crate::Recipe;

const BYTES_PER_NUMBER: u64 = 4;

/// What a block keeps of each token for the way back, in numbers as wide as the model: the inputs of both norms, of the
/// four products and of the activation with its slope, and as much again as is in use at a time on the way back.
const KEPT_PER_BLOCK: usize = 22;

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
    let kept = KEPT_PER_BLOCK.saturating_mul(config.n_layer).saturating_add(4);
    let activations = product([tokens, config.n_embd, kept, 1]);
    let logits = product([tokens, config.vocab_size, 2, 1]).min(LOGITS);
    [state, activations, logits].into_iter().fold(PROGRAM, u64::saturating_add)
}
