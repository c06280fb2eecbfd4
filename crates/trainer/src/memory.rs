//! Estimates the memory of a run, and compares it with the machine's.

use families::gguf::FileType;
use model::{Activation, Activations, GptConfig, SlotType, estimate_slots};
use sysinfo::System;

use crate::{OptimizerKind, Recipe};

const BYTES_PER_VALUE: u64 = 4;

/// Peak memory of the backward pass relative to the kept activations, as a fraction.
const BACKWARD_PEAK: [usize; 2] = [11, 8];

/// Maximum size of the logits and their gradients that exist at the same time, in bytes.
const LOGITS: u64 = 2 * (64 << 20);

/// The program with its caches and thread buffers, in bytes.
const BASELINE: u64 = 64 << 20;

/// The memory of this machine, or the limit of its container, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineMemory {
    /// All memory, including swap.
    pub total: u64,
    /// Free memory, without swap.
    pub available: u64,
}

/// Whether an amount of memory fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryFit {
    /// It fits into free memory.
    Free,
    /// It is more than is free, but not more than the total.
    Tight,
    /// It is more than the total.
    TooLarge,
}

impl MachineMemory {
    /// The current memory of this machine.
    pub fn now() -> Self {
        let mut system = System::new();
        system.refresh_memory();
        let (total, available) = match system.cgroup_limits() {
            Some(limits) if limits.total_memory > 0 => (limits.total_memory, limits.free_memory),
            _ => (system.total_memory(), system.available_memory()),
        };
        Self { total: total.saturating_add(system.total_swap()), available }
    }

    /// Whether `needed` bytes fit.
    pub fn fit(self, needed: u64) -> MemoryFit {
        if needed > self.total {
            MemoryFit::TooLarge
        } else if needed > self.available {
            MemoryFit::Tight
        } else {
            MemoryFit::Free
        }
    }
}

/// Estimates the peak memory of training, in bytes: weights, gradients, both moments, the copy being written to a
/// checkpoint, activations, Muon's scratch matrices, and the keys and values of a sample. With LoRA, the base model has
/// weights alone. With `run.shard_optimizer`, the moments are divided over `n_ranks`, of which one has all of the embedding.
///
/// It models the fused kernels on the CPU, and was within about a third of measurements there. (Muon keeps only one
/// moment; the allocator holds about as much between the phases of a step.)
pub fn estimate_memory(recipe: &Recipe, n_ranks: usize) -> u64 {
    let config = &recipe.model;
    let n_params = config.n_params() as u64;
    let (frozen, n_trained) = match &recipe.lora {
        None => (0, n_params),
        Some(lora) => (frozen_bytes(n_params, lora.base), lora.n_values(config)),
    };
    let product = |factors: [usize; 4]| {
        factors.into_iter().fold(BYTES_PER_VALUE, |product, factor| product.saturating_mul(factor as u64))
    };
    // Weight, gradient and two moments, plus weight and all moments again while a checkpoint is written.
    let trained = BYTES_PER_VALUE.saturating_mul(n_trained);
    let moments = match (recipe.run.shard_optimizer, recipe.lora.is_some()) {
        (false, _) => 2 * trained,
        (true, true) => 2 * trained / n_ranks as u64,
        (true, false) => {
            let embedding = product([config.vocab_size, config.n_embd, 1, 1]);
            2 * embedding.max(trained / n_ranks as u64)
        }
    };
    let state = frozen.saturating_add((2 + 3) * trained).saturating_add(moments);
    // The weights of the last synchronisation and the outer momentum. While ranks synchronise, there are copies of the moments
    // to send, received ones and the new optimizer states, but no activations.
    let [outer, synchronising] = if recipe.run.has_local_steps() { [2, 10] } else { [0, 0] };
    let tokens = recipe.optimizer.batch_size.get().saturating_mul(config.block_size);
    // Kept per token: the inputs of both norms and of the four matrix products, the activation's derivatives, and the
    // values outside the blocks.
    let [queries, keys, values] = config.qkv_widths();
    let kept = 4 * config.n_embd + 2 * queries + keys + values + config.expanded_width() + config.n_inner();
    let [of_blocks, inputs] = match recipe.activations() {
        Activations::Keep => [kept.saturating_mul(config.n_layer), 0],
        Activations::Recompute => [kept, config.n_embd.saturating_mul(config.n_layer)],
    };
    let kept = (of_blocks / BACKWARD_PEAK[1] * BACKWARD_PEAK[0]).saturating_add(inputs);
    let activations = product([tokens, kept.saturating_add(4 * config.n_embd), 1, 1]);
    let logits = product([tokens, config.vocab_size, 2, 1]).min(LOGITS);
    let muon = match recipe.optimizer.kind {
        OptimizerKind::AdamW => 0,
        OptimizerKind::Muon => muon_scratch(config),
    };
    let sample = estimate_slots(config, 1, config.block_size, SlotType::F32);
    let activations = activations.max(synchronising * trained);
    [state, outer * trained, activations, logits, muon, sample]
        .into_iter()
        .fold(BASELINE, u64::saturating_add)
}

/// The size of weights that are not trained, in bytes.
fn frozen_bytes(n_params: u64, ty: FileType) -> u64 {
    let ty = ty.base();
    n_params.saturating_mul(ty.block_bytes() as u64) / ty.block_len() as u64
}

/// Peak scratch memory of Muon, in bytes. It orthogonalises one matrix after the other.
fn muon_scratch(config: &GptConfig) -> u64 {
    let (width, hidden) = (config.n_embd, config.n_inner());
    let [queries, keys, values] = config.qkv_widths();
    let expanded = match config.feed_forward.activation {
        // Two matrices side by side, orthogonalised separately.
        Activation::Swiglu => hidden,
        _ => config.expanded_width(),
    };
    let matrices = [queries, keys, values, expanded].map(|n_out| [width, n_out]);
    let matrices = matrices.into_iter().chain([[queries, width], [hidden, width]]);
    matrices.map(|[rows, columns]| orthogonal_scratch(rows as u64, columns as u64)).max().unwrap_or(0)
}

/// Scratch memory of [`kernels::muon`] in addition to a matrix, its gradient and its momentum, in bytes.
///
/// It holds the matrix and its normalised copy, and in addition a product with its Gram matrix and the polynomial of
/// that. If the matrix is not square, five and a half of the small matrices may be the larger addition.
fn orthogonal_scratch(rows: u64, columns: u64) -> u64 {
    let (whole, [short, long]) = (rows.saturating_mul(columns), [rows.min(columns), rows.max(columns)]);
    let small = short.saturating_mul(short);
    let in_product = whole.saturating_mul(3).saturating_add(small.saturating_mul(2));
    let in_polynomials = whole.saturating_mul(2).saturating_add(small.saturating_mul(11) / 2);
    BYTES_PER_VALUE.saturating_mul(if short == long { in_product } else { in_product.max(in_polynomials) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_up_to_the_total_fits() {
        let memory = MachineMemory { total: 8, available: 5 };
        assert_eq!(
            [5, 6, 8, 9].map(|needed| memory.fit(needed)),
            [MemoryFit::Free, MemoryFit::Tight, MemoryFit::Tight, MemoryFit::TooLarge]
        );
        let now = MachineMemory::now();
        assert!(now.total > 0 && now.available <= now.total, "{now:?}");
    }

    #[test]
    fn muon_scratch_is_that_of_its_largest_matrix() {
        // A long matrix: three copies of it and two small ones, or two copies and five and a half small ones if that is
        // more.
        assert_eq!(orthogonal_scratch(1024, 4096), 4 * (3 * 1024 * 4096 + 2 * 1024 * 1024));
        assert_eq!(orthogonal_scratch(300, 200), 4 * (2 * 300 * 200 + 11 * 200 * 200 / 2));
        assert_eq!(orthogonal_scratch(200, 240), 4 * (2 * 240 * 200 + 11 * 200 * 200 / 2));
        assert_eq!(orthogonal_scratch(200, 200), 4 * (3 + 2) * 200 * 200);
        assert_eq!(orthogonal_scratch(4096, 1024), orthogonal_scratch(1024, 4096));

        let recipe = |kind: &str, activation: &str| {
            let set = [format!("optimizer.kind={kind}"), format!("model.activation={activation}")];
            Recipe::parse(crate::preset("nanogpt-gpu").unwrap(), &set).unwrap()
        };
        // With a width of 384, the largest matrix is the hidden layer's; SwiGLU's two count separately.
        for (activation, hidden) in [("gelu", 4 * 384), ("swiglu", 1024)] {
            let [adamw, muon] = ["adamw", "muon"].map(|kind| estimate_memory(&recipe(kind, activation), 1));
            assert_eq!(muon - adamw, orthogonal_scratch(384, hidden), "{activation}");
        }
    }

    #[test]
    fn frozen_weights_have_no_gradients_and_moments() {
        let of = |lora: &[&str]| {
            let sets: Vec<String> = lora.iter().map(|&set| set.to_owned()).collect();
            let recipe = Recipe::parse(crate::preset("nanogpt-gpu").unwrap(), &sets).unwrap();
            (estimate_memory(&recipe, 1), recipe.model.n_params() as u64)
        };
        let lora = ["lora.rank=4", "lora.alpha=8"];
        let ((all, n_params), (f32, _)) = (of(&[]), of(&lora));
        // Six layers 384 wide: of each, matrices with 384 or 1536 inputs and outputs.
        let n_updates = 6 * 4 * (384 + 3 * 384 + 2 * 384 + 2 * (384 + 1536));
        assert_eq!(all - f32, 6 * 4 * n_params - 7 * 4 * n_updates);
        let (contracting, _) = of(&[lora[0], lora[1], "lora.targets=[\"mlp.c_proj\"]"]);
        assert_eq!(
            f32 - contracting,
            7 * 4 * (n_updates - 6 * 4 * (1536 + 384)),
            "the updates of one module"
        );
        let (q8_0, _) = of(&[lora[0], lora[1], "lora.base=q8_0", "run.activations=keep"]);
        assert_eq!(f32 - q8_0, 4 * n_params - n_params * 34 / 32);
    }

    #[test]
    fn local_steps_keep_weights_and_momentum() {
        let of = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
            let recipe = Recipe::parse(crate::preset("nanogpt-gpu").unwrap(), &sets).unwrap();
            (estimate_memory(&recipe, 1), recipe.model.n_params() as u64)
        };
        let ((local, n_params), (each_step, _)) = (of(&["run.sync_interval=10"]), of(&[]));
        assert_eq!(local - each_step, 2 * 4 * n_params);
        // A batch of one short window: the activations are smaller than the copies of the moments.
        let small = ["optimizer.batch_size=1", "run.activations=recompute"];
        let difference = of(&[&small[..], &["run.sync_interval=10"]].concat()).0 - of(&small).0;
        assert!(difference > 8 * 4 * n_params && difference < 12 * 4 * n_params, "{difference}");
    }

    #[test]
    fn ranks_divide_the_moments_if_the_recipe_says_so() {
        let recipe = |sets: &[String]| Recipe::parse(crate::preset("nanogpt-gpu").unwrap(), sets).unwrap();
        let (whole, divided) = (recipe(&[]), recipe(&["run.shard_optimizer=true".to_owned()]));
        let moments = 2 * 4 * whole.model.n_params() as u64;
        let alone = estimate_memory(&whole, 1);
        assert_eq!([&whole, &divided].map(|recipe| estimate_memory(recipe, 1)), [alone; 2]);
        assert_eq!(estimate_memory(&whole, 4), alone);
        assert_eq!(estimate_memory(&divided, 4), alone - moments + moments / 4);
        // GPT-2's embedding has 31 % of its weights.
        let gpt2 =
            Recipe::parse(crate::preset("gpt2").unwrap(), &["run.shard_optimizer=true".to_owned()]).unwrap();
        let gpt2 = Recipe { model: GptConfig { vocab_size: 50304, ..gpt2.model.clone() }, ..gpt2 };
        let [moments, embedding] = [gpt2.model.n_params(), 50304 * 768].map(|n| 2 * 4 * n as u64);
        assert_eq!(estimate_memory(&gpt2, 64), estimate_memory(&gpt2, 1) - moments + embedding);
    }

    #[test]
    fn recomputed_blocks_keep_their_input_alone() {
        let of = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
            estimate_memory(&Recipe::parse(crate::preset("nanogpt-gpu").unwrap(), &sets).unwrap(), 1)
        };
        let [kept, recomputed] = ["keep", "recompute"].map(|it| of(&[&format!("run.activations={it}")]));
        assert_eq!(of(&[]), kept);
        // Five of six layers, and less the inputs of all six; 64 rows of 256 tokens, 384 wide.
        let (kept_per_token, input) = (384 * (4 + 4 + 4 + 4), 384);
        let tokens = 64 * 256 * 4;
        assert_eq!(kept - recomputed, tokens * (5 * kept_per_token * 11 / 8 - 6 * input));
        let packed = ["lora.rank=4", "lora.alpha=8", "lora.base=q8_0"];
        let [lora, explicit] =
            ["keep", "recompute"].map(|it| of(&[&packed[..], &[&format!("run.activations={it}")]].concat()));
        assert_eq!(of(&packed), explicit);
        assert!(explicit < lora);
    }

    #[test]
    fn a_sample_needs_keys_and_values() {
        let recipe = |sets: &[String]| Recipe::parse(crate::preset("nanogpt-gpu").unwrap(), sets).unwrap();
        // The same number of tokens per batch in windows eight times as long: only position embeddings, keys and values
        // grow.
        let short = recipe(&[]);
        let long = recipe(&["model.block_size=2048".to_owned(), "optimizer.batch_size=8".to_owned()]);
        let more = 2048 - 256;
        let (keys_and_values, embeddings) = (2 * 6 * 384 * more * 4, 7 * 384 * more * 4);
        assert_eq!(estimate_memory(&long, 1) - estimate_memory(&short, 1), keys_and_values + embeddings);
    }
}
