//! The sizes and parts of a model, and the ones people know by name.

use serde::{Deserialize, Serialize};

/// The sizes and parts of a [`Gpt`](crate::Gpt), with GPT-2's names where GPT-2 has one. What a recipe leaves out is as
/// in GPT-2.
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
    /// Number of heads of keys and values, each of which serves as many heads of queries; `n_head` if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_kv_head: Option<usize>,
    /// Width of the residual stream, a multiple of `n_head` unless `head_dim` is given.
    pub n_embd: usize,
    /// Width of an attention head; `n_embd` / `n_head` if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// Width of the hidden layer of a feed-forward network; if none is given 4 · `n_embd`, and for SwiGLU, which has
    /// three matrices in place of two, two thirds of that, rounded up to a multiple of 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_inner: Option<usize>,
    /// Probability of dropping an activation while training, in `[0, 1)`.
    #[serde(default)]
    pub dropout: f64,
    /// Whether linear layers and layer norms add a bias. RMS norms have none.
    pub bias: bool,
    /// Whether the output head is the token embedding, transposed.
    pub tie_embeddings: bool,
    /// What stands between the linear layers of a feed-forward network.
    pub activation: Activation,
    /// How a model knows where a token stands.
    #[serde(default)]
    pub position: Position,
    /// The base of the angles of rotary positions.
    #[serde(default = "default_rope_theta")]
    pub rope_theta: f64,
    /// How the residual stream is normalised before each part of a block, and before the head.
    #[serde(default)]
    pub norm: NormKind,
    /// What a norm adds to the mean square.
    #[serde(default = "default_norm_epsilon")]
    pub norm_epsilon: f64,
    /// Whether the queries and keys of each head are RMS-normalised, with a gain, before they meet.
    #[serde(default)]
    pub qk_norm: bool,
    /// Whether a fresh model's residual projections are zero, so that every block begins by adding nothing.
    #[serde(default)]
    pub zero_init: bool,
}

/// What stands between the linear layers of a feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x · Φ(x)`, as nanoGPT has it.
    Gelu,
    /// The tanh form, as GPT-2 has it.
    GeluTanh,
    /// `max(x, 0)²`.
    Relu2,
    /// `silu(g) · u` of two maps g and u, as Llama has it.
    Swiglu,
}

/// How a model knows where a token stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// A learned vector for each position is added to the token's, as GPT-2 has it.
    #[default]
    Learned,
    /// Queries and keys are rotated by angles that grow with the position, as Llama has it.
    Rope,
}

/// How the residual stream is normalised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// To mean zero and variance one, as GPT-2 has it.
    #[default]
    LayerNorm,
    /// To mean square one, as Llama has it.
    RmsNorm,
}

fn default_rope_theta() -> f64 {
    1e4
}

fn default_norm_epsilon() -> f64 {
    1e-5
}

/// No machine has memory for a model of more parameters.
const MAX_PARAMS: f64 = 1e12;

/// No model has been made for longer texts.
const MAX_BLOCK_SIZE: usize = 1 << 24;

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
    /// A length that no memory holds the keys of.
    #[error("`block_size` = {0} is too long; it can be at most {MAX_BLOCK_SIZE}")]
    BlockTooLong(usize),
    /// A width that the heads can't share.
    #[error("`n_embd` = {n_embd} is not a multiple of `n_head` = {n_head}")]
    UnevenHeads {
        /// Width of the residual stream.
        n_embd: usize,
        /// Number of heads.
        n_head: usize,
    },
    /// Heads of queries that the heads of keys and values can't share evenly.
    #[error("`n_head` = {n_head} is not a multiple of `n_kv_head` = {n_kv_head}")]
    UnevenGroups {
        /// Number of heads of queries.
        n_head: usize,
        /// Number of heads of keys and values.
        n_kv_head: usize,
    },
    /// A head whose channels do not make pairs to rotate.
    #[error("heads are {0} wide; `position` = \"rope\" rotates pairs of channels, so it has to be even")]
    OddRope(usize),
    /// A probability outside its range.
    #[error("`dropout` = {0} is not in [0, 1)")]
    Dropout(f64),
    /// A key without effect.
    #[error("`rope_theta` has no effect without `position` = \"rope\"; leave it out, or set that")]
    UnusedTheta,
    /// A number that has to be above zero.
    #[error("`{field}` = {value} is not a number above 0")]
    NotPositive {
        /// The field's name.
        field: &'static str,
        /// What it was.
        value: f64,
    },
}

impl GptConfig {
    /// The smallest GPT-2 (124M parameters).
    pub fn gpt2() -> Self {
        Self {
            vocab_size: 50_257,
            block_size: 1024,
            n_layer: 12,
            n_head: 12,
            n_kv_head: None,
            n_embd: 768,
            head_dim: None,
            n_inner: None,
            dropout: 0.1,
            bias: true,
            tie_embeddings: true,
            activation: Activation::GeluTanh,
            position: Position::Learned,
            rope_theta: default_rope_theta(),
            norm: NormKind::LayerNorm,
            norm_epsilon: default_norm_epsilon(),
            qk_norm: false,
            zero_init: false,
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
            activation: Activation::Gelu,
            ..Self::gpt2()
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

    /// A model for tests with every part of today's open models: everything small, all sizes different.
    pub fn debug_modern() -> Self {
        Self {
            n_head: 4,
            n_kv_head: Some(2),
            head_dim: Some(6),
            n_inner: Some(20),
            tie_embeddings: false,
            activation: Activation::Swiglu,
            position: Position::Rope,
            norm: NormKind::RmsNorm,
            norm_epsilon: 1e-6,
            qk_norm: true,
            ..Self::debug()
        }
    }

    /// Number of heads of keys and values.
    pub fn n_kv_head(&self) -> usize {
        self.n_kv_head.unwrap_or(self.n_head)
    }

    /// Width of an attention head.
    pub fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or(self.n_embd / self.n_head.max(1))
    }

    /// Width of all queries, of all keys, and of all values.
    pub fn qkv_widths(&self) -> [usize; 3] {
        [self.n_head, self.n_kv_head(), self.n_kv_head()].map(|n| n.saturating_mul(self.head_dim()))
    }

    /// Width of the hidden layer of a feed-forward network.
    pub fn n_inner(&self) -> usize {
        self.n_inner.unwrap_or_else(|| match self.activation {
            Activation::Swiglu => (8 * self.n_embd).div_ceil(3).next_multiple_of(8),
            _ => 4 * self.n_embd,
        })
    }

    /// Width of what the first map of a feed-forward network makes: for SwiGLU, two hidden layers.
    pub fn expanded_width(&self) -> usize {
        match self.activation {
            Activation::Swiglu => 2 * self.n_inner(),
            _ => self.n_inner(),
        }
    }

    /// Number of trainable parameters; a tied head counts once.
    pub fn n_params(&self) -> usize {
        let (c, bias) = (self.n_embd, usize::from(self.bias));
        let linear = |d_in: usize, d_out: usize| d_in * d_out + bias * d_out;
        let norm = match self.norm {
            NormKind::LayerNorm => c + bias * c,
            NormKind::RmsNorm => c,
        };
        let [queries, keys, values] = self.qkv_widths();
        let attention = linear(c, queries + keys + values) + linear(queries, c);
        let qk_norm = if self.qk_norm { 2 * self.head_dim() } else { 0 };
        let feed_forward = linear(c, self.expanded_width()) + linear(self.n_inner(), c);
        let block = 2 * norm + attention + qk_norm + feed_forward;
        let positions = match self.position {
            Position::Learned => self.block_size,
            Position::Rope => 0,
        };
        let head = if self.tie_embeddings { 0 } else { c * self.vocab_size };
        (self.vocab_size + positions) * c + self.n_layer * block + norm + head
    }

    /// Says which size can't work, if any.
    ///
    /// # Errors
    ///
    /// If a size is 0, heads do not share a width or each other evenly, rotated heads are odd, `dropout` is not in
    /// `[0, 1)`, or `rope_theta` or `norm_epsilon` is not a number above 0.
    pub fn check(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("block_size", self.block_size),
            ("n_layer", self.n_layer),
            ("n_head", self.n_head),
            ("n_kv_head", self.n_kv_head.unwrap_or(1)),
            ("n_embd", self.n_embd),
            ("head_dim", self.head_dim.unwrap_or(1)),
            ("n_inner", self.n_inner.unwrap_or(1)),
        ];
        if let Some((field, _)) = sizes.into_iter().find(|&(_, size)| size == 0) {
            return Err(ConfigError::Zero { field });
        }
        self.check_memory()?;
        if self.block_size > MAX_BLOCK_SIZE {
            return Err(ConfigError::BlockTooLong(self.block_size));
        }
        if self.head_dim.is_none() && !self.n_embd.is_multiple_of(self.n_head) {
            return Err(ConfigError::UnevenHeads { n_embd: self.n_embd, n_head: self.n_head });
        }
        if !self.n_head.is_multiple_of(self.n_kv_head()) {
            return Err(ConfigError::UnevenGroups { n_head: self.n_head, n_kv_head: self.n_kv_head() });
        }
        if self.position == Position::Rope && !self.head_dim().is_multiple_of(2) {
            return Err(ConfigError::OddRope(self.head_dim()));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(ConfigError::Dropout(self.dropout));
        }
        #[expect(clippy::float_cmp, reason = "the default is the same number")]
        if self.position == Position::Learned && self.rope_theta != default_rope_theta() {
            return Err(ConfigError::UnusedTheta);
        }
        let numbers = [("rope_theta", self.rope_theta), ("norm_epsilon", self.norm_epsilon)];
        match numbers.into_iter().find(|(_, value)| !(value.is_finite() && *value > 0.0)) {
            Some((field, value)) => Err(ConfigError::NotPositive { field, value }),
            None => Ok(()),
        }
    }

    /// In floating point, which does not overflow.
    fn check_memory(&self) -> Result<(), ConfigError> {
        let [width, n_layer] = [self.n_embd, self.n_layer].map(|size| size as f64);
        let head_dim = self.head_dim.map_or(width / self.n_head as f64, |dim| dim as f64);
        let attention = 2.0 * (self.n_head + self.n_kv_head()) as f64 * head_dim;
        let feed_forward = self.n_inner.map_or(8.0 * width, |n_inner| 3.0 * n_inner as f64);
        let outside = self.vocab_size as f64 + self.block_size as f64;
        let n_params = width * (n_layer * (attention + feed_forward) + outside);
        if n_params > MAX_PARAMS {
            return Err(ConfigError::TooLarge { n_params });
        }
        Ok(())
    }
}

impl From<Activation> for kernels::Activation {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Gelu => Self::Gelu,
            Activation::GeluTanh => Self::GeluTanh,
            Activation::Relu2 => Self::Relu2,
            Activation::Swiglu => Self::Swiglu,
        }
    }
}

impl From<NormKind> for kernels::NormKind {
    fn from(norm: NormKind) -> Self {
        match norm {
            NormKind::LayerNorm => Self::Layer,
            NormKind::RmsNorm => Self::Rms,
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
        // SmolLM2-135M and Qwen3-0.6B.
        let smol = GptConfig {
            vocab_size: 49_152,
            n_layer: 30,
            n_head: 9,
            n_kv_head: Some(3),
            n_embd: 576,
            n_inner: Some(1536),
            tie_embeddings: true,
            qk_norm: false,
            head_dim: None,
            ..GptConfig::debug_modern()
        };
        assert_eq!(smol.n_params(), 134_515_008);
        let qwen = GptConfig {
            vocab_size: 151_936,
            n_layer: 28,
            n_head: 16,
            n_kv_head: Some(8),
            n_embd: 1024,
            head_dim: Some(128),
            n_inner: Some(3072),
            qk_norm: true,
            ..smol
        };
        assert_eq!(qwen.n_params(), 596_049_920);
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
        let modern = GptConfig::debug_modern;
        assert!(modern().check().is_ok());
        assert_eq!(
            refused(GptConfig { n_kv_head: Some(3), ..modern() }),
            "`n_head` = 4 is not a multiple of `n_kv_head` = 3"
        );
        assert_eq!(
            refused(GptConfig { head_dim: Some(5), ..modern() }),
            "heads are 5 wide; `position` = \"rope\" rotates pairs of channels, so it has to be even"
        );
        assert_eq!(
            refused(GptConfig { n_inner: Some(0), ..modern() }),
            "`n_inner` is 0; it has to be at least 1"
        );
        assert!(refused(GptConfig { rope_theta: 5.0, ..debug() }).contains("has no effect"));
        assert_eq!(
            refused(GptConfig { norm_epsilon: f64::NAN, ..modern() }),
            "`norm_epsilon` = NaN is not a number above 0"
        );
        assert_eq!(
            refused(GptConfig { block_size: 1 << 32, ..modern() }),
            "`block_size` = 4294967296 is too long; it can be at most 16777216"
        );
        let huge = GptConfig { head_dim: Some(usize::MAX), n_inner: Some(usize::MAX), ..modern() };
        assert!(refused(huge).contains("parameters"));
    }
}
