//! FLOPs of a run, and an estimate of its duration on this machine.

use model::{Activations, GptConfig};
use roofline::Sizes;
use serde::Serialize;
use tokenizer::TokenizerKind;

use crate::{OptimizerKind, Recipe};

/// Model FLOPs utilisation (MFU) of training, measured with the models S to L (docs/performance.md).
const UTILISATION: f64 = 0.6;

/// The same for fine-tuning on conversations, measured with SmolLM2-135M (docs/chats.md).
const CHAT_UTILISATION: f64 = 0.4;

/// The estimated cost of a run on this machine.
#[derive(Debug, Serialize)]
pub struct Cost {
    pub parameters: usize,
    pub tokens: u64,
    pub seconds: f64,
}

impl Cost {
    /// The cost of all steps. `peak_flops` is the peak speed of this machine, in FLOPs per second.
    pub fn of(recipe: &Recipe, peak_flops: f64) -> Self {
        Self::of_steps(recipe, recipe.schedule.max_steps, peak_flops)
    }

    /// The cost of the first `n_steps` steps.
    pub fn of_steps(recipe: &Recipe, n_steps: u64, peak_flops: f64) -> Self {
        let sizes = roofline_sizes(&recipe.model);
        let tokens = recipe.tokens_per_step().saturating_mul(n_steps);
        let n_tokens = usize::try_from(recipe.tokens_per_step()).unwrap_or(usize::MAX);
        let muon = match recipe.optimizer.kind {
            OptimizerKind::AdamW => 0.0,
            OptimizerKind::Muon => sizes.muon_flops(),
        };
        // One forward pass, the gradients of the inputs, and, unless they are frozen, the gradients of the weights.
        let forward = sizes.train_flops(n_tokens, recipe.model.block_size) / 3.0;
        let passes = match &recipe.lora {
            None => 3.0 * forward,
            Some(lora) => 2.0 * forward + 6.0 * n_tokens as f64 * lora.n_values(&recipe.model) as f64,
        };
        let recomputed = match recipe.activations() {
            Activations::Keep => 0.0,
            Activations::Recompute => forward,
        };
        let flops = (passes + recomputed + muon) * n_steps as f64;
        let utilisation = if recipe.chat.is_some() { CHAT_UTILISATION } else { UTILISATION };
        Self { parameters: recipe.model.n_params(), tokens, seconds: flops / (utilisation * peak_flops) }
    }
}

/// The model's sizes in the form that `roofline` takes.
pub fn roofline_sizes(config: &GptConfig) -> Sizes {
    let [queries, keys, _] = config.qkv_widths();
    Sizes {
        n_layer: config.n_layer,
        n_embd: config.n_embd,
        queries,
        keys,
        n_inner: config.n_inner(),
        gated: config.expanded_width() > config.n_inner(),
        vocab_size: config.vocab_size,
    }
}

/// A tokenizer's vocabulary size. `n_characters` is the number of distinct characters in the text.
pub fn vocab_size(tokenizer: TokenizerKind, n_characters: usize) -> usize {
    match tokenizer {
        TokenizerKind::Byte => 256,
        TokenizerKind::Gpt2 => 50_257,
        TokenizerKind::Bpe { vocab_size } => vocab_size,
        TokenizerKind::Char => n_characters,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frozen_weights_and_kept_activations_take_less_time() {
        let seconds = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
            let recipe = Recipe::parse(crate::preset("nanogpt-gpu").unwrap(), &sets).unwrap();
            Cost::of(&recipe, 1e12).seconds
        };
        let (all, recomputed) = (seconds(&[]), seconds(&["run.activations=recompute"]));
        assert!((recomputed / all - 4.0 / 3.0).abs() < 1e-9);
        let lora = ["lora.rank=4", "lora.alpha=8"];
        let ratio = seconds(&lora) / all;
        assert!((0.667..0.72).contains(&ratio), "{ratio}");
        let packed = seconds(&[lora[0], lora[1], "lora.base=q8_0"]);
        assert!((packed - seconds(&lora) - all / 3.0).abs() / all < 1e-9, "a packed base is recomputed");
    }
}
