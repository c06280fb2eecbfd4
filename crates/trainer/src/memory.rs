//! How much memory a run will take.

use crate::Recipe;

const BYTES_PER_NUMBER: u64 = 4;

/// What a block keeps of each token for the way back, in numbers as wide as the model: the inputs of both norms, of the
/// four products and of the activation with its slope, and as much again as is in use at a time on the way back.
const KEPT_PER_BLOCK: u64 = 22;

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
    let tokens = recipe.optimizer.batch_size.get() as u64 * config.block_size as u64;
    let width = config.n_embd as u64;
    let activations = tokens * width * (KEPT_PER_BLOCK * config.n_layer as u64 + 4) * BYTES_PER_NUMBER;
    let logits = (tokens * config.vocab_size as u64 * BYTES_PER_NUMBER * 2).min(LOGITS);
    [state, activations, logits].into_iter().fold(PROGRAM, u64::saturating_add)
}
