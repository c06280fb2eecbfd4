//! The sizes and architecture options of a model.

use serde::{Deserialize, Serialize};

/// The sizes and architecture options of a [`Gpt`](crate::Gpt), with GPT-2's names where GPT-2 has one.
///
/// In a file, the keys of all sections are side by side; those that a recipe leaves out are as in GPT-2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "FlatConfig", into = "FlatConfig")]
pub struct GptConfig {
    /// The family whose files the model is stored as; if none is given, the first one with these options.
    pub family: Option<String>,
    /// Number of distinct token ids. Not part of a recipe: it follows from the tokenizer.
    pub vocab_size: usize,
    /// Longest input, in tokens.
    pub block_size: usize,
    /// Number of residual blocks.
    pub n_layer: usize,
    /// Width of the residual stream, a multiple of `n_head` unless `head_dim` is given.
    pub n_embd: usize,
    /// Probability of dropping an activation while training, in `[0, 1)`.
    pub dropout: f64,
    /// Whether linear layers and layer norms add a bias. RMS norms have none.
    pub bias: bool,
    /// Whether the output head is the token embedding, transposed.
    pub tie_embeddings: bool,
    /// Whether a fresh model's residual projections are zero, so that every block begins by adding nothing.
    pub zero_init: bool,
    /// Heads, and the normalisation of queries and keys.
    pub attention: AttentionConfig,
    /// Width and activation of the feed-forward networks.
    pub feed_forward: FeedForwardConfig,
    /// Learned or rotary positions.
    pub position: PositionConfig,
    /// Normalisation of the residual stream.
    pub norm: NormConfig,
}

/// The options of attention.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionConfig {
    /// Number of attention heads in each block.
    pub n_head: usize,
    /// Number of heads of keys and values, each of which serves as many heads of queries; `n_head` if none is given.
    pub n_kv_head: Option<usize>,
    /// Width of an attention head; `n_embd` / `n_head` if none is given.
    pub head_dim: Option<usize>,
    /// Whether queries, keys and values have a bias where the other linear layers have none.
    pub qkv_bias: bool,
    /// Whether the queries and keys of each head are RMS-normalised, with a gain, before their dot product.
    pub qk_norm: bool,
}

/// The options of the feed-forward networks.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedForwardConfig {
    /// Width of the hidden layer; if none is given 4 · `n_embd`, and for SwiGLU, which has three matrices in place of
    /// two, two thirds of that, rounded up to a multiple of 8.
    pub n_inner: Option<usize>,
    /// What stands between the linear layers.
    pub activation: Activation,
}

/// The options of positions.
#[derive(Debug, Clone, PartialEq)]
pub struct PositionConfig {
    /// Learned or rotary.
    pub kind: Position,
    /// The base of the angles of rotary positions.
    pub rope_theta: f64,
}

/// The options of the norms before each part of a block, and before the head.
#[derive(Debug, Clone, PartialEq)]
pub struct NormConfig {
    /// Layer norm or RMS norm.
    pub kind: NormKind,
    /// Added to the mean square.
    pub epsilon: f64,
}

/// The activation of a feed-forward network.
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

/// How a model knows the position of a token.
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

/// The base of rotary angles in a file that does not say.
pub(crate) const DEFAULT_ROPE_THETA: f64 = 1e4;

/// What norms add in a file that does not say.
pub(crate) const DEFAULT_NORM_EPSILON: f64 = 1e-5;

impl GptConfig {
    /// Number of heads of keys and values.
    pub fn n_kv_head(&self) -> usize {
        self.attention.n_kv_head.unwrap_or(self.attention.n_head)
    }

    /// Width of an attention head.
    pub fn head_dim(&self) -> usize {
        self.attention.head_dim.unwrap_or(self.n_embd / self.attention.n_head.max(1))
    }

    /// Whether queries, keys and values have a bias.
    pub fn has_qkv_bias(&self) -> bool {
        self.bias || self.attention.qkv_bias
    }

    /// Width of all queries, of all keys, and of all values.
    pub fn qkv_widths(&self) -> [usize; 3] {
        [self.attention.n_head, self.n_kv_head(), self.n_kv_head()].map(|n| n.saturating_mul(self.head_dim()))
    }

    /// Width of the hidden layer of a feed-forward network.
    pub fn n_inner(&self) -> usize {
        self.feed_forward.n_inner.unwrap_or_else(|| match self.feed_forward.activation {
            Activation::Swiglu => (8 * self.n_embd).div_ceil(3).next_multiple_of(8),
            _ => 4 * self.n_embd,
        })
    }

    /// Width of what the first map of a feed-forward network makes: for SwiGLU, two hidden layers.
    pub fn expanded_width(&self) -> usize {
        match self.feed_forward.activation {
            Activation::Swiglu => 2 * self.n_inner(),
            _ => self.n_inner(),
        }
    }

    /// Number of trainable parameters; a tied head counts once.
    pub fn n_params(&self) -> usize {
        let (c, bias) = (self.n_embd, usize::from(self.bias));
        let linear = |d_in: usize, d_out: usize| d_in * d_out + bias * d_out;
        let norm = match self.norm.kind {
            NormKind::LayerNorm => c + bias * c,
            NormKind::RmsNorm => c,
        };
        let [queries, keys, values] = self.qkv_widths();
        let qkv = queries + keys + values;
        let qkv_bias = if self.has_qkv_bias() { qkv } else { 0 };
        let attention = c * qkv + qkv_bias + linear(queries, c);
        let qk_norm = if self.attention.qk_norm { 2 * self.head_dim() } else { 0 };
        let feed_forward = linear(c, self.expanded_width()) + linear(self.n_inner(), c);
        let block = 2 * norm + attention + qk_norm + feed_forward;
        let positions = match self.position.kind {
            Position::Learned => self.block_size,
            Position::Rope => 0,
        };
        let head = if self.tie_embeddings { 0 } else { c * self.vocab_size };
        (self.vocab_size + positions) * c + self.n_layer * block + norm + head
    }
}

/// The keys of a file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename = "GptConfig", deny_unknown_fields)]
struct FlatConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    family: Option<String>,
    #[serde(skip)]
    vocab_size: usize,
    block_size: usize,
    n_layer: usize,
    n_head: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n_kv_head: Option<usize>,
    n_embd: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    head_dim: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n_inner: Option<usize>,
    #[serde(default)]
    dropout: f64,
    bias: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    qkv_bias: bool,
    tie_embeddings: bool,
    activation: Activation,
    #[serde(default)]
    position: Position,
    #[serde(default = "default_rope_theta")]
    rope_theta: f64,
    #[serde(default)]
    norm: NormKind,
    #[serde(default = "default_norm_epsilon")]
    norm_epsilon: f64,
    #[serde(default)]
    qk_norm: bool,
    #[serde(default)]
    zero_init: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

fn default_rope_theta() -> f64 {
    DEFAULT_ROPE_THETA
}

fn default_norm_epsilon() -> f64 {
    DEFAULT_NORM_EPSILON
}

impl From<FlatConfig> for GptConfig {
    fn from(flat: FlatConfig) -> Self {
        let FlatConfig { n_head, n_kv_head, head_dim, qkv_bias, qk_norm, n_inner, activation, .. } = flat;
        Self {
            family: flat.family,
            vocab_size: flat.vocab_size,
            block_size: flat.block_size,
            n_layer: flat.n_layer,
            n_embd: flat.n_embd,
            dropout: flat.dropout,
            bias: flat.bias,
            tie_embeddings: flat.tie_embeddings,
            zero_init: flat.zero_init,
            attention: AttentionConfig { n_head, n_kv_head, head_dim, qkv_bias, qk_norm },
            feed_forward: FeedForwardConfig { n_inner, activation },
            position: PositionConfig { kind: flat.position, rope_theta: flat.rope_theta },
            norm: NormConfig { kind: flat.norm, epsilon: flat.norm_epsilon },
        }
    }
}

impl From<GptConfig> for FlatConfig {
    fn from(config: GptConfig) -> Self {
        let AttentionConfig { n_head, n_kv_head, head_dim, qkv_bias, qk_norm } = config.attention;
        let FeedForwardConfig { n_inner, activation } = config.feed_forward;
        Self {
            family: config.family,
            vocab_size: config.vocab_size,
            block_size: config.block_size,
            n_layer: config.n_layer,
            n_head,
            n_kv_head,
            n_embd: config.n_embd,
            head_dim,
            n_inner,
            dropout: config.dropout,
            bias: config.bias,
            qkv_bias,
            tie_embeddings: config.tie_embeddings,
            activation,
            position: config.position.kind,
            rope_theta: config.position.rope_theta,
            norm: config.norm.kind,
            norm_epsilon: config.norm.epsilon,
            qk_norm,
            zero_init: config.zero_init,
        }
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
        let modern = GptConfig::debug_modern();
        let smol = GptConfig {
            vocab_size: 49_152,
            n_layer: 30,
            n_embd: 576,
            tie_embeddings: true,
            attention: AttentionConfig {
                n_head: 9,
                n_kv_head: Some(3),
                head_dim: None,
                qkv_bias: false,
                qk_norm: false,
            },
            feed_forward: FeedForwardConfig { n_inner: Some(1536), ..modern.feed_forward },
            ..modern
        };
        assert_eq!(smol.n_params(), 134_515_008);
        let qwen = GptConfig {
            vocab_size: 151_936,
            n_layer: 28,
            n_embd: 1024,
            attention: AttentionConfig {
                n_head: 16,
                n_kv_head: Some(8),
                head_dim: Some(128),
                qk_norm: true,
                ..smol.attention
            },
            feed_forward: FeedForwardConfig { n_inner: Some(3072), ..smol.feed_forward },
            ..smol
        };
        assert_eq!(qwen.n_params(), 596_049_920);
    }

    #[test]
    fn keys_of_a_file_are_flat_and_those_without_a_choice_are_left_out() {
        let config = GptConfig { vocab_size: 0, ..GptConfig::debug_modern() };
        let file = serde_json::to_value(&config).unwrap();
        assert_eq!(
            file,
            serde_json::json!({
                "block_size": 8, "n_layer": 2, "n_head": 4, "n_kv_head": 2, "n_embd": 12, "head_dim": 6, "n_inner": 20,
                "dropout": 0.0, "bias": false, "tie_embeddings": false, "activation": "swiglu", "position": "rope",
                "rope_theta": 1e4, "norm": "rms_norm", "norm_epsilon": 1e-6, "qk_norm": true, "zero_init": false,
            })
        );
        assert_eq!(serde_json::from_value::<GptConfig>(file.clone()).unwrap(), config);
        let chosen = GptConfig { family: Some("llama".to_owned()), ..config };
        let file = serde_json::to_value(&chosen).unwrap();
        assert_eq!((&file["family"], &file["n_head"]), (&"llama".into(), &4.into()));
        assert_eq!(file.get("qkv_bias"), None);
        assert_eq!(serde_json::from_value::<GptConfig>(file).unwrap(), chosen);
    }
}
