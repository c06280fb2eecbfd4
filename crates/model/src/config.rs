//! The sizes of a model, and the ones people know by name.

use serde::{Deserialize, Serialize};

/// The sizes of a [`Gpt`](crate::Gpt), with GPT-2's names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GptConfig {
    /// Number of distinct token ids. Not part of a recipe: it follows from the tokenizer.
    #[serde(skip)]
    pub vocab_size: usize,
    /// Longest input, in tokens.
    pub block_size: usize,
    /// Number of residual blocks.
    pub n_layer: usize,
    /// Number of attention heads in each block.
    pub n_head: usize,
    /// Width of the residual stream, a multiple of `n_head`.
    pub n_embd: usize,
    /// Probability of dropping an activation while training, in `[0, 1)`.
    #[serde(default)]
    pub dropout: f64,
    /// Whether linear layers and norms add a bias.
    pub bias: bool,
    /// Whether the output head is the token embedding, transposed.
    pub tie_embeddings: bool,
    /// What stands between the two linear layers of a feed-forward network.
    pub activation: Activation,
}

/// Which form of GELU a feed-forward network uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x · Φ(x)`, as nanoGPT has it.
    Gelu,
    /// The tanh form, as GPT-2 has it.
    GeluTanh,
}

/// No machine has memory for a model of more parameters.
const MAX_PARAMS: f64 = 1e12;

/// Why no model has these sizes.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A size that has to be at least one.
    #[error("`{field}` is 0; it has to be at least 1")]
    Zero {
        /// The field's name.
        field: &'static str,
    },
    /// Sizes that no memory holds.
    #[error("these sizes make a model of {n_params:.0e} parameters; at most {MAX_PARAMS:.0e} can be")]
    TooLarge {
        /// About how many it would have.
        n_params: f64,
    },
    /// A width that the heads can't share.
    #[error("`n_embd` = {n_embd} is not a multiple of `n_head` = {n_head}")]
    UnevenHeads {
        /// Width of the residual stream.
        n_embd: usize,
        /// Number of heads.
        n_head: usize,
    },
    /// A probability outside its range.
    #[error("`dropout` = {0} is not in [0, 1)")]
    Dropout(f64),
}

impl GptConfig {
    /// The smallest GPT-2 (124M parameters).
    pub fn gpt2() -> Self {
        Self {
            vocab_size: 50_257,
            block_size: 1024,
            n_layer: 12,
            n_head: 12,
            n_embd: 768,
            dropout: 0.1,
            bias: true,
            tie_embeddings: true,
            activation: Activation::GeluTanh,
        }
    }

    /// The second GPT-2 (355M parameters).
    pub fn gpt2_medium() -> Self {
        Self { n_layer: 24, n_head: 16, n_embd: 1024, ..Self::gpt2() }
    }

    /// The third GPT-2 (774M parameters).
    pub fn gpt2_large() -> Self {
        Self { n_layer: 36, n_head: 20, n_embd: 1280, ..Self::gpt2() }
    }

    /// The largest GPT-2 (1558M parameters).
    pub fn gpt2_xl() -> Self {
        Self { n_layer: 48, n_head: 25, n_embd: 1600, ..Self::gpt2() }
    }

    /// nanoGPT's model for Shakespeare on a GPU (10.7M parameters over 65 characters).
    pub fn nanogpt_gpu() -> Self {
        Self {
            vocab_size: 65,
            block_size: 256,
            n_layer: 6,
            n_head: 6,
            n_embd: 384,
            dropout: 0.2,
            bias: false,
            tie_embeddings: true,
            activation: Activation::Gelu,
        }
    }

    /// nanoGPT's model for Shakespeare on a CPU (0.8M parameters over 65 characters).
    pub fn nanogpt_cpu() -> Self {
        Self { block_size: 64, n_layer: 4, n_head: 4, n_embd: 128, dropout: 0.0, ..Self::nanogpt_gpu() }
    }

    /// A model for tests: everything small, all sizes different.
    pub fn debug() -> Self {
        Self { vocab_size: 13, block_size: 8, n_layer: 2, n_head: 3, n_embd: 12, ..Self::nanogpt_cpu() }
    }

    /// Number of trainable parameters; a tied head counts once.
    pub fn n_params(&self) -> usize {
        let (c, bias) = (self.n_embd, usize::from(self.bias));
        let linear = |d_in: usize, d_out: usize| d_in * d_out + bias * d_out;
        let norm = c + bias * c;
        let block = 2 * norm + linear(c, 3 * c) + linear(c, c) + linear(c, 4 * c) + linear(4 * c, c);
        let head = if self.tie_embeddings { 0 } else { c * self.vocab_size };
        (self.vocab_size + self.block_size) * c + self.n_layer * block + norm + head
    }

    /// Says which size can't work, if any.
    ///
    /// # Errors
    ///
    /// If a size is 0, the heads do not share `n_embd` evenly, or `dropout` is not in `[0, 1)`.
    pub fn check(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("block_size", self.block_size),
            ("n_layer", self.n_layer),
            ("n_head", self.n_head),
            ("n_embd", self.n_embd),
        ];
        if let Some((field, _)) = sizes.into_iter().find(|&(_, size)| size == 0) {
            return Err(ConfigError::Zero { field });
        }
        let [width, n_layer] = [self.n_embd, self.n_layer].map(|size| size as f64);
        let n_params = width * (12.0 * n_layer * width + self.vocab_size as f64 + self.block_size as f64);
        if n_params > MAX_PARAMS {
            return Err(ConfigError::TooLarge { n_params });
        }
        if !self.n_embd.is_multiple_of(self.n_head) {
            return Err(ConfigError::UnevenHeads { n_embd: self.n_embd, n_head: self.n_head });
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(ConfigError::Dropout(self.dropout));
        }
        Ok(())
    }
}

impl From<Activation> for kernels::Activation {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Gelu => Self::Gelu,
            Activation::GeluTanh => Self::GeluTanh,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_counts_are_the_published_ones() {
        assert_eq!(GptConfig::gpt2().n_params(), 124_439_808);
        assert_eq!(GptConfig::gpt2_medium().n_params(), 354_823_168);
        assert_eq!(GptConfig::gpt2_large().n_params(), 774_030_080);
        assert_eq!(GptConfig::gpt2_xl().n_params(), 1_557_611_200);
        assert_eq!(GptConfig::nanogpt_gpu().n_params(), 10_745_088);
        assert_eq!(GptConfig::nanogpt_cpu().n_params(), 804_096);
    }

    #[test]
    fn impossible_sizes_are_named() {
        let refused = |config: GptConfig| config.check().expect_err("these sizes can't work").to_string();
        let debug = GptConfig::debug;
        assert!(debug().check().is_ok());
        assert_eq!(refused(GptConfig { n_layer: 0, ..debug() }), "`n_layer` is 0; it has to be at least 1");
        assert_eq!(
            refused(GptConfig { n_head: 5, ..debug() }),
            "`n_embd` = 12 is not a multiple of `n_head` = 5"
        );
        assert_eq!(refused(GptConfig { dropout: 1.0, ..debug() }), "`dropout` = 1 is not in [0, 1)");
    }
}
