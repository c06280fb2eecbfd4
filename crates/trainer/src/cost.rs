//! The arithmetic of a model and of a run, and about how long that takes on this machine.

use model::GptConfig;
use roofline::Sizes;
use serde::Serialize;
use tokenizer::TokenizerKind;

use crate::{OptimizerKind, Recipe};

/// What training reaches of the peak of multiply-adds, as measured with the models of S to L (README).
const SHARE_OF_PEAK: f64 = 0.6;

/// What a run takes on this machine, about.
#[derive(Debug, Serialize)]
pub struct Cost {
    /// Of the model.
    pub parameters: usize,
    /// Of all its steps.
    pub tokens: u64,
    /// At the share of the peak that training reaches.
    pub seconds: f64,
}

impl Cost {
    /// Of all its steps.
    pub fn of(recipe: &Recipe, peak_flops: f64) -> Self {
        Self::of_steps(recipe, recipe.schedule.max_steps, peak_flops)
    }

    /// Of some of its steps.
    pub fn of_steps(recipe: &Recipe, n_steps: u64, peak_flops: f64) -> Self {
        let sizes = sizes(&recipe.model);
        let tokens = recipe.tokens_per_step().saturating_mul(n_steps);
        let step = usize::try_from(recipe.tokens_per_step()).unwrap_or(usize::MAX);
        let muon = match recipe.optimizer.kind {
            OptimizerKind::AdamW => 0.0,
            OptimizerKind::Muon => sizes.muon_flops(),
        };
        let step = sizes.train_flops(step, recipe.model.block_size) + muon;
        let flops = step * n_steps as f64;
        Self { parameters: recipe.model.n_params(), tokens, seconds: flops / (SHARE_OF_PEAK * peak_flops) }
    }
}

/// The sizes of a model, as `roofline` takes them.
pub fn sizes(config: &GptConfig) -> Sizes {
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

/// The size of a tokenizer's vocabulary, over a text of so many distinct characters.
pub fn vocab_size(tokenizer: TokenizerKind, n_characters: usize) -> usize {
    match tokenizer {
        TokenizerKind::Byte => 256,
        TokenizerKind::Gpt2 => 50_257,
        TokenizerKind::Bpe { vocab_size } => vocab_size,
        TokenizerKind::Char => n_characters,
    }
}
