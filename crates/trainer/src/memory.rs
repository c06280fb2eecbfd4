//! How much memory a run will take, and whether the machine has it.

use model::{Activation, GptConfig, SlotType, estimate_slots};
use sysinfo::System;

use crate::{OptimizerKind, Recipe};

const BYTES_PER_NUMBER: u64 = 4;

/// How much more than a block keeps for the way back is in use at a time on it.
const IN_USE: [usize; 2] = [11, 8];

/// The most logits that are computed at a time, forward and backward, in bytes.
const LOGITS: u64 = 2 * (64 << 20);

/// The program itself, its caches and its threads' buffers, in bytes.
const PROGRAM: u64 = 64 << 20;

/// The memory of this machine, or in a container its limit, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineMemory {
    /// What there is, with what it may swap to.
    pub total: u64,
    /// What of it is free.
    pub available: u64,
}

/// Whether something fits into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// So much is free.
    Free,
    /// The machine has so much, and more of it is in use.
    Tight,
    /// The machine has less.
    TooLarge,
}

impl MachineMemory {
    /// As it is now.
    pub fn now() -> Self {
        let mut system = System::new();
        system.refresh_memory();
        let (total, available) = match system.cgroup_limits() {
            Some(limits) if limits.total_memory > 0 => (limits.total_memory, limits.free_memory),
            _ => (system.total_memory(), system.available_memory()),
        };
        Self { total: total.saturating_add(system.total_swap()), available }
    }

    /// Whether so many bytes fit.
    pub fn fit(self, needed: u64) -> Fit {
        if needed > self.total {
            Fit::TooLarge
        } else if needed > self.available {
            Fit::Tight
        } else {
            Fit::Free
        }
    }
}

/// An estimate of the most memory that training by a recipe takes, in bytes: weights, gradients, both moments, the copy
/// that is on its way to disk, activations, what Muon computes with, and the keys and values of a sample.
///
/// It is for the fused kernels on the CPU, and within about a third of what was measured there. (Muon keeps one moment
/// only: what that saves is about what an allocator does not give back between the parts of a step.)
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
    let muon = match recipe.optimizer.kind {
        OptimizerKind::AdamW => 0,
        OptimizerKind::Muon => muon_scratch(config),
    };
    let sample = estimate_slots(config, 1, config.block_size, SlotType::F32);
    [state, activations, logits, muon, sample].into_iter().fold(PROGRAM, u64::saturating_add)
}

/// The most that Muon computes with at a time, in bytes: it makes one matrix orthogonal after the other.
fn muon_scratch(config: &GptConfig) -> u64 {
    let (width, hidden) = (config.n_embd, config.n_inner());
    let [queries, keys, values] = config.qkv_widths();
    let expanded = match config.feed_forward.activation {
        // Side by side, and made orthogonal apart.
        Activation::Swiglu => hidden,
        _ => config.expanded_width(),
    };
    let matrices = [queries, keys, values, expanded].map(|n_out| [width, n_out]);
    let matrices = matrices.into_iter().chain([[queries, width], [hidden, width]]);
    matrices.map(|[rows, columns]| orthogonal_scratch(rows as u64, columns as u64)).max().unwrap_or(0)
}

/// What [`kernels::muon`] has in memory besides a matrix, its gradient and its mean, in bytes.
///
/// The matrix to be made orthogonal, that divided by its norm, and then either a product with it beside its Gram matrix
/// and the polynomial of that, or, for one that is not square, five of the small matrices and a half while their product is made.
fn orthogonal_scratch(rows: u64, columns: u64) -> u64 {
    let (whole, [short, long]) = (rows.saturating_mul(columns), [rows.min(columns), rows.max(columns)]);
    let small = short.saturating_mul(short);
    let in_product = whole.saturating_mul(3).saturating_add(small.saturating_mul(2));
    let in_polynomials = whole.saturating_mul(2).saturating_add(small.saturating_mul(11) / 2);
    BYTES_PER_NUMBER.saturating_mul(if short == long { in_product } else { in_product.max(in_polynomials) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_has_fits_and_more_does_not() {
        let memory = MachineMemory { total: 8, available: 5 };
        assert_eq!(
            [5, 6, 8, 9].map(|needed| memory.fit(needed)),
            [Fit::Free, Fit::Tight, Fit::Tight, Fit::TooLarge]
        );
        let now = MachineMemory::now();
        assert!(now.total > 0 && now.available <= now.total, "{now:?}");
    }

    #[test]
    fn muon_computes_with_copies_of_its_largest_matrix() {
        // A long matrix: three copies of it and two of the small ones; or two copies and five and a half, if those are more.
        assert_eq!(orthogonal_scratch(1024, 4096), 4 * (3 * 1024 * 4096 + 2 * 1024 * 1024));
        assert_eq!(orthogonal_scratch(300, 200), 4 * (2 * 300 * 200 + 11 * 200 * 200 / 2));
        assert_eq!(orthogonal_scratch(200, 240), 4 * (2 * 240 * 200 + 11 * 200 * 200 / 2));
        assert_eq!(orthogonal_scratch(200, 200), 4 * (3 + 2) * 200 * 200);
        assert_eq!(orthogonal_scratch(4096, 1024), orthogonal_scratch(1024, 4096));

        let recipe = |kind: &str, activation: &str| {
            let set = [format!("optimizer.kind={kind}"), format!("model.activation={activation}")];
            Recipe::parse(crate::preset("nanogpt-gpu").unwrap(), &set).unwrap()
        };
        // 384 wide: the matrix of the hidden layer is the largest, and of SwiGLU's two each alone.
        for (activation, hidden) in [("gelu", 4 * 384), ("swiglu", 1024)] {
            let [adamw, muon] = ["adamw", "muon"].map(|kind| estimate_memory(&recipe(kind, activation)));
            assert_eq!(muon - adamw, orthogonal_scratch(384, hidden), "{activation}");
        }
    }

    #[test]
    fn a_sample_has_keys_and_values() {
        let recipe = |sets: &[String]| Recipe::parse(crate::preset("nanogpt-gpu").unwrap(), sets).unwrap();
        // As many tokens in a batch, eight times as long: only positions and their keys take more.
        let short = recipe(&[]);
        let long = recipe(&["model.block_size=2048".to_owned(), "optimizer.batch_size=8".to_owned()]);
        let more = 2048 - 256;
        let (keys_and_values, embeddings) = (2 * 6 * 384 * more * 4, 7 * 384 * more * 4);
        assert_eq!(estimate_memory(&long) - estimate_memory(&short), keys_and_values + embeddings);
    }
}
