//! Model families and their requirements.

use std::fmt;

use model::GptConfig;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{config_problem::ConfigProblem, names::Names};

/// A model family: its options, and its names in files.
pub struct Family {
    /// `family` in a recipe and `model_type` in `config.json`.
    pub model_type: &'static str,
    /// The name for messages, such as `Llama`.
    pub name: &'static str,
    /// The class in `transformers`.
    pub class: &'static str,
    /// `general.architecture` in GGUF. If families share one, a file is read as the first of
    /// [`FAMILIES`](crate::FAMILIES).
    pub architecture: &'static str,
    /// A config with the options that all members share. Its sizes are arbitrary.
    pub(crate) base: fn() -> GptConfig,
    /// The options that a member needs.
    pub(crate) options: fn(&GptConfig) -> Vec<Stage>,
    /// The `config.json` of a member, without the keys that all families share.
    pub(crate) to_json: fn(&GptConfig) -> Value,
    /// Parses a `config.json`.
    pub(crate) from_json: fn(&Value) -> Result<GptConfig, ConfigProblem>,
    /// A substring of the Hugging Face keys of matrices without bias, if the other matrices have one.
    pub(crate) without_bias: fn(&Value) -> Option<&'static str>,
    pub(crate) names: Names,
    /// GGUF keys that llama.cpp's converter writes only for this architecture.
    pub(crate) extra_gguf_keys: fn(&GptConfig) -> Vec<(&'static str, usize)>,
    /// The reason why llama.cpp does not support the options of a model.
    pub(crate) unsupported_by_llama_cpp: fn(&GptConfig) -> Option<String>,
}

/// An option that distinguishes families, and the other options that it requires.
pub(crate) struct Stage {
    pub(crate) choice: Need,
    pub(crate) others: Vec<Need>,
}

/// An option that a family requires.
pub(crate) struct Need {
    /// The option of the model, as in a recipe.
    pub(crate) option: String,
    /// Whether the model meets the requirement.
    pub(crate) holds: bool,
    /// The required option.
    pub(crate) expected: String,
}

impl Need {
    /// Requires `expected`.
    pub(crate) fn equal<T: PartialEq + Serialize>(key: &str, found: T, expected: T) -> Self {
        let holds = found == expected;
        Self { option: option(key, found), holds, expected: option(key, expected) }
    }
}

/// A recipe key with its value.
pub(crate) fn option(key: &str, value: impl Serialize) -> String {
    format!("`{key}` = {}", json!(value))
}

impl Family {
    /// A config with the options that all members share. Its sizes are arbitrary.
    pub fn base(&self) -> GptConfig {
        (self.base)()
    }
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
