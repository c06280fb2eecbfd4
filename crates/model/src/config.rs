//! The sizes and architecture options of a model.

use serde::{Deserialize, Serialize};

/// The sizes and architecture options of a [`Gpt`](crate::Gpt), with GPT-2's names where they exist.
///
/// Serialised, all keys are at one level; optional keys default to GPT-2's values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "FlatConfig", into = "FlatConfig")]
pub struct GptConfig {
    /// The family whose file layout is used; by default the first one with these options.
    pub family: Option<String>,
    /// Number of token ids. Not part of a recipe, since the tokenizer determines it.
    pub vocab_size: usize,
    /// Context length, in tokens.
    pub block_size: usize,
    pub n_layer: usize,
    /// Width of the residual stream, a multiple of `n_head` unless `head_dim` is given.
    pub n_embd: usize,
    /// Dropout probability in training, in `[0, 1)`.
    pub dropout: f64,
    /// Whether linear layers and layer norms have a bias.
    pub bias: bool,
    /// Whether the output head shares the weight of the token embedding.
    pub tie_embeddings: bool,
    /// Whether residual projections are initialised to zero, so that every block starts as the identity.
    pub zero_init: bool,
    pub attention: AttentionConfig,
    pub feed_forward: FeedForwardConfig,
    pub position: PositionConfig,
    pub norm: NormConfig,
}

/// Attention options.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionConfig {
    pub n_head: usize,
    /// Number of key-value heads, for grouped-query attention (GQA); by default `n_head`.
    pub n_kv_head: Option<usize>,
    /// Width of an attention head; by default `n_embd / n_head`.
    pub head_dim: Option<usize>,
    /// Whether the QKV layer has a bias although `bias` is false.
    pub qkv_bias: bool,
    /// QK norm: whether the queries and keys of each head pass an RMS norm before their dot product.
    pub qk_norm: bool,
}

/// Options of the feed-forward networks.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedForwardConfig {
    /// Width of the hidden layer. The default is 4 · `n_embd`. With SwiGLU, which has three matrices instead of two, it
    /// is two thirds of that, rounded up to a multiple of 8.
    pub n_inner: Option<usize>,
    pub activation: Activation,
}

/// Options of position encoding.
#[derive(Debug, Clone, PartialEq)]
pub struct PositionConfig {
    pub kind: Position,
    /// Base of the RoPE frequencies.
    pub rope_theta: f64,
}

/// Options of the norms in each block and before the head.
#[derive(Debug, Clone, PartialEq)]
pub struct NormConfig {
    pub kind: NormKind,
    /// Added to the variance or the mean square.
    pub epsilon: f64,
}

/// The activation of a feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x · Φ(x)`, as in nanoGPT.
    Gelu,
    /// The tanh approximation of GELU, as in GPT-2.
    GeluTanh,
    /// `max(x, 0)²`
    Relu2,
    /// `silu(g) · u` of two projections g and u, as in Llama.
    Swiglu,
}

/// Position encoding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// A learned embedding of the position is added to the token embedding, as in GPT-2.
    #[default]
    Learned,
    /// Rotary position embeddings of queries and keys, as in Llama.
    Rope,
}

/// Normalisation of the residual stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// To mean 0 and variance 1, as in GPT-2.
    #[default]
    LayerNorm,
    /// To mean square 1, as in Llama.
    RmsNorm,
}

pub(crate) const DEFAULT_ROPE_THETA: f64 = 1e4;

pub(crate) const DEFAULT_NORM_EPSILON: f64 = 1e-5;

impl GptConfig {
    /// Number of key-value heads.
    pub fn n_kv_head(&self) -> usize {
        self.attention.n_kv_head.unwrap_or(self.attention.n_head)
    }

    /// Width of an attention head.
    pub fn head_dim(&self) -> usize {
        self.attention.head_dim.unwrap_or(self.n_embd / self.attention.n_head.max(1))
    }

    /// Whether the QKV layer has a bias.
    pub fn has_qkv_bias(&self) -> bool {
        self.bias || self.attention.qkv_bias
    }

    /// Widths of the queries, keys and values of all heads.
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

    /// Output width of the first linear layer of a feed-forward network: `n_inner`, or twice that with SwiGLU.
    pub fn expanded_width(&self) -> usize {
        match self.feed_forward.activation {
            Activation::Swiglu => 2 * self.n_inner(),
            _ => self.n_inner(),
        }
    }

    /// The paths of the linear layers of the blocks, with the shapes `[C_out, C_in]` of their weights.
    pub fn linear_shapes(&self) -> Vec<(String, [usize; 2])> {
        let layers = [
            ("attention.qkv", [self.qkv_widths().iter().sum(), self.n_embd]),
            ("attention.project", [self.n_embd, self.qkv_widths()[0]]),
            ("feed_forward.expand", [self.expanded_width(), self.n_embd]),
            ("feed_forward.project", [self.n_embd, self.n_inner()]),
        ];
        let of_block = |block| layers.map(|(layer, shape)| (format!("blocks.{block}.{layer}"), shape));
        (0..self.n_layer).flat_map(of_block).collect()
    }

    /// Number of parameters. A tied head counts once.
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

/// The serialised form of [`GptConfig`].
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
    fn parameter_counts_match_the_published_ones() {
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
    fn serialised_keys_are_flat_and_unset_options_are_omitted() {
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
