//! The one place that knows Hugging Face's layouts: which model is in which, and its `config.json`.
//!
//! [`gpt2`] and [`llama`] have the names of the weights, [`layout`](crate::layout) is what both are to a file of them.

pub(crate) mod gpt2;
pub(crate) mod llama;

use model::{Activation, GptConfig, NormKind, Position};
use serde::Serialize;
use serde_json::{Value, json};

/// The models of Hugging Face's that a [`Gpt`](model::Gpt) can be, by its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Learned positions, layer norms, one hidden layer.
    Gpt2,
    /// Rotary positions, RMS norms, SwiGLU.
    Llama,
    /// Llama with norms of queries and keys, and without biases.
    Qwen3,
}

/// Why a model is in no layout of Hugging Face's: a part and those that none of them has with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{chosen} with {other} is in no layout of Hugging Face's, which with {chosen} have {expected}")]
pub struct NoLayout {
    chosen: String,
    other: String,
    expected: String,
}

impl Architecture {
    /// The one that a model with these sizes and parts is.
    ///
    /// # Errors
    ///
    /// If its parts are in no layout.
    pub fn of(config: &GptConfig) -> Result<Self, NoLayout> {
        let &GptConfig { n_embd, n_head, qk_norm, .. } = config;
        let norm = part("norm", config.norm);
        let activation = part("activation", config.activation);
        let kv = part("n_kv_head", config.n_kv_head());
        let head = part("head_dim", config.head_dim());
        let learned = Position::Learned;
        let rope = Position::Rope;
        // Each a part, whether it does, and what would.
        let needs = match config.position {
            Position::Learned => vec![
                (norm, config.norm == NormKind::LayerNorm, part("norm", NormKind::LayerNorm)),
                (activation, config.activation != Activation::Swiglu, "any other `activation`".to_owned()),
                (part("qk_norm", qk_norm), !qk_norm, part("qk_norm", false)),
                (kv, config.n_kv_head() == n_head, part("n_kv_head", n_head)),
                (head, config.head_dim() * n_head == n_embd, "`head_dim` = `n_embd` / `n_head`".to_owned()),
            ],
            Position::Rope => vec![
                (norm, config.norm == NormKind::RmsNorm, part("norm", NormKind::RmsNorm)),
                (activation, config.activation == Activation::Swiglu, part("activation", Activation::Swiglu)),
            ],
        };
        let chosen = part("position", if config.position == learned { learned } else { rope });
        let (others, expected): (Vec<_>, Vec<_>) = needs
            .into_iter()
            .filter(|(_, does, _)| !does)
            .map(|(other, _, expected)| (other, expected))
            .unzip();
        if !others.is_empty() {
            return Err(NoLayout { chosen, other: others.join(" and "), expected: expected.join(" and ") });
        }
        match config.position {
            Position::Learned => Ok(Self::Gpt2),
            Position::Rope if !qk_norm && n_embd.is_multiple_of(n_head) => Ok(Self::Llama),
            Position::Rope if !qk_norm => Err(NoLayout {
                chosen: part("qk_norm", false),
                other: format!("{} and {}", part("n_embd", n_embd), part("n_head", n_head)),
                expected: "an `n_embd` that is a multiple of `n_head`".to_owned(),
            }),
            Position::Rope if config.bias => Err(NoLayout {
                chosen: part("qk_norm", true),
                other: part("bias", true),
                expected: part("bias", false),
            }),
            Position::Rope => Ok(Self::Qwen3),
        }
    }

    /// The class of `transformers` that opens it.
    pub fn class(self) -> &'static str {
        match self {
            Self::Gpt2 => "GPT2LMHeadModel",
            Self::Llama => "LlamaForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }

    /// What `config.json` calls it.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Llama => "llama",
            Self::Qwen3 => "qwen3",
        }
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "GPT-2",
            Self::Llama => "Llama",
            Self::Qwen3 => "Qwen3",
        }
    }

    /// `config.json` of a model of it.
    pub(crate) fn to_json(self, config: &GptConfig) -> Value {
        match self {
            Self::Gpt2 => gpt2::config_to_json(config),
            Self::Llama | Self::Qwen3 => llama::config_to_json(config, self),
        }
    }

    /// The sizes that the `config.json` of one describes, or why no [`model::Gpt`] is such a model.
    pub(crate) fn config(self, file: Value) -> Result<GptConfig, ConfigProblem> {
        match self {
            Self::Gpt2 => gpt2::config_from_json(file),
            Self::Llama => llama::config_from_json(file, self),
            Self::Qwen3 => llama::config_from_json(file, self),
        }
    }
}

/// A key of a recipe with its value.
fn part(key: &str, value: impl Serialize) -> String {
    format!("`{key}` = {}", json!(value))
}

fn yes() -> bool {
    true
}

/// Why a `config.json` describes no model of ours.
#[derive(Debug)]
pub(crate) enum ConfigProblem {
    Json(serde_json::Error),
    Unsupported(String),
}

impl From<serde_json::Error> for ConfigProblem {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

/// A value of a `config.json` that no model of ours has.
fn unsupported(key: &str, value: impl Serialize, supported: &str) -> ConfigProblem {
    ConfigProblem::Unsupported(format!("`{key}` is {}; only {supported} is supported", json!(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Llama of odd sizes.
    fn llama() -> GptConfig {
        GptConfig { qk_norm: false, ..GptConfig::debug_modern() }
    }

    #[test]
    fn the_architecture_follows_from_the_parts() {
        let of = |config: &GptConfig| Architecture::of(config).expect("a layout has these parts");
        assert_eq!(of(&GptConfig::gpt2()), Architecture::Gpt2);
        assert_eq!(
            of(&GptConfig { activation: Activation::Relu2, ..GptConfig::debug() }),
            Architecture::Gpt2
        );
        assert_eq!(of(&llama()), Architecture::Llama);
        assert_eq!(of(&GptConfig { bias: true, ..llama() }), Architecture::Llama);
        assert_eq!(of(&GptConfig::debug_modern()), Architecture::Qwen3);
    }

    #[test]
    fn parts_that_no_layout_has_together_are_named() {
        let refused =
            |config: GptConfig| Architecture::of(&config).expect_err("no layout has it").to_string();
        let debug = GptConfig::debug;
        assert_eq!(
            refused(GptConfig { position: Position::Rope, ..debug() }),
            "`position` = \"rope\" with `norm` = \"layer_norm\" and `activation` = \"gelu\" is in no layout of Hugging \
             Face's, which with `position` = \"rope\" have `norm` = \"rms_norm\" and `activation` = \"swiglu\""
        );
        assert_eq!(
            refused(GptConfig { n_kv_head: Some(1), ..debug() }),
            "`position` = \"learned\" with `n_kv_head` = 1 is in no layout of Hugging Face's, which with \
             `position` = \"learned\" have `n_kv_head` = 3"
        );
        for (config, part) in [
            (GptConfig { norm: NormKind::RmsNorm, ..debug() }, "`norm` = \"rms_norm\""),
            (GptConfig { activation: Activation::Swiglu, ..debug() }, "`activation` = \"swiglu\""),
            (GptConfig { qk_norm: true, ..debug() }, "`qk_norm` = true"),
            (GptConfig { head_dim: Some(5), ..debug() }, "`head_dim` = 5"),
            (GptConfig { activation: Activation::Relu2, ..llama() }, "`activation` = \"relu2\""),
            (GptConfig { bias: true, ..GptConfig::debug_modern() }, "`qk_norm` = true with `bias` = true"),
            (GptConfig { n_embd: 14, ..llama() }, "`n_embd` = 14 and `n_head` = 4"),
        ] {
            let reason = refused(config);
            assert!(reason.contains(&format!("{part} is in no layout")), "{reason}");
        }
        let wide = GptConfig { n_embd: 14, ..GptConfig::debug_modern() };
        assert_eq!(Architecture::of(&wide), Ok(Architecture::Qwen3));
    }
}
