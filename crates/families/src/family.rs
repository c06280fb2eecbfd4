//! A model family, and how a model is told to be one.

use std::fmt;

use model::GptConfig;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{config_problem::ConfigProblem, names::Names};

/// A model family: the options of its models, and how their files name and store everything.
pub struct Family {
    /// `family` in a recipe and `model_type` in `config.json`.
    pub model_type: &'static str,
    /// The name in prose.
    pub name: &'static str,
    /// The class of `transformers` that opens it.
    pub class: &'static str,
    /// llama.cpp's name, `general.architecture`. Families may share one; the first in the list is read.
    pub architecture: &'static str,
    /// A model with the options that all members have; its sizes mean nothing.
    pub(crate) base: fn() -> GptConfig,
    /// The options that a model needs to be a member.
    pub(crate) options: fn(&GptConfig) -> Vec<Stage>,
    /// `config.json` of a member, without what is the same in all families.
    pub(crate) to_json: fn(&GptConfig) -> Value,
    /// The sizes and options that a `config.json` describes.
    pub(crate) from_json: fn(&Value) -> Result<GptConfig, ConfigProblem>,
    /// The Hugging Face key prefix of the matrices without biases in a file whose other matrices have them.
    pub(crate) without_bias: fn(&Value) -> Option<&'static str>,
    /// The names of its tensors.
    pub(crate) names: Names,
    /// Keys that llama.cpp's converter writes for this architecture and not for others.
    pub(crate) more_gguf_keys: fn(&GptConfig) -> Vec<(&'static str, usize)>,
    /// An option that llama.cpp has only in another form.
    pub(crate) not_in_llama_cpp: fn(&GptConfig) -> Option<String>,
}

/// A choice among options that leads to a family, and what goes with it there.
pub(crate) struct Stage {
    pub(crate) choice: Need,
    pub(crate) others: Vec<Need>,
}

/// An option that a family needs.
pub(crate) struct Need {
    /// The option of the model, as a recipe has it.
    pub(crate) option: String,
    /// Whether it will do.
    pub(crate) holds: bool,
    /// What would do.
    pub(crate) expected: String,
}

impl Need {
    /// An option that has to be this one.
    pub(crate) fn equal<T: PartialEq + Serialize>(key: &str, found: T, expected: T) -> Self {
        let holds = found == expected;
        Self { option: option(key, found), holds, expected: option(key, expected) }
    }
}

/// A key of a recipe with its value.
pub(crate) fn option(key: &str, value: impl Serialize) -> String {
    format!("`{key}` = {}", json!(value))
}

impl Family {
    /// A model with the options that all members have. Its sizes are some or other.
    pub fn base(&self) -> GptConfig {
        (self.base)()
    }
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
