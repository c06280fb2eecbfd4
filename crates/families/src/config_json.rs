//! `config.json`: the sizes and options of a model, in its family's keys or, where it has no family, in our own.

use std::path::Path;

use burn::prelude::Device;
use formats::weights::Weights;
use model::{Gpt, GptConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokenizer::SpecialTokens;

use crate::{
    Error, Result,
    config_problem::ConfigProblem,
    family::Family,
    load::{Memory, load},
    names::Names,
    own,
    quantization::{is_quantized, quantization},
    registry::listed,
};

/// What the `config.json` of a model without a family says of it.
#[derive(Serialize, Deserialize)]
struct OwnConfig {
    vocab_size: usize,
    /// All the rest, as in a recipe.
    kindling: GptConfig,
}

/// `config.json` of a model; `dtype` is PyTorch's name of the type that its weights are stored as.
pub fn config_to_json(config: &GptConfig, special_tokens: &SpecialTokens, dtype: &str) -> Value {
    let mut file = match Family::of(config) {
        Ok(family) => (family.to_json)(config),
        Err(_) => json!({
            "architectures": ["KindlingForCausalLM"],
            "model_type": own::MODEL_TYPE,
            "vocab_size": config.vocab_size,
            "kindling": config,
        }),
    };
    special_tokens.write_to(&mut file);
    special_tokens.companions.lay_over_config(&mut file);
    file["dtype"] = json!(dtype);
    file
}

/// A model as its `config.json` describes it.
#[derive(Debug)]
pub struct Described {
    config: GptConfig,
    names: &'static Names,
    /// A part of the keys of those matrices that have no bias where others have one; a [`Gpt`] has zeros there.
    without_bias: Option<&'static str>,
}

impl Described {
    /// Reads the text of the `config.json` at `path`.
    ///
    /// # Errors
    ///
    /// If it describes no model that can be opened.
    pub fn read(text: &str, path: &Path) -> Result<Self> {
        let described = described(text).map_err(|problem| match problem {
            ConfigProblem::Json(source) => Error::Json { path: path.to_owned(), source },
            ConfigProblem::Unsupported(reason) => Error::Config { path: path.to_owned(), reason },
        })?;
        described.config.check().map_err(|source| Error::Sizes { path: path.to_owned(), source })?;
        Ok(described)
    }

    /// The sizes and options.
    pub fn config(&self) -> &GptConfig {
        &self.config
    }

    /// Whether the matrices of a file can be used where they lie.
    pub fn is_mappable(&self, weights: &Weights) -> bool {
        let mut tensors =
            weights.names().filter_map(|name| weights.get(name).filter(|_| self.names.key(name).is_some()));
        tensors.all(|tensor| tensor.shape().len() != 2 || tensor.is_mappable())
    }

    /// The model with the weights of its files.
    ///
    /// # Errors
    ///
    /// If they can't be read, or a tensor is missing, left over, of another shape or of another kind; every such
    /// tensor is named.
    pub fn load(&self, weights: Weights, memory: Memory, device: &Device) -> Result<Gpt> {
        load(&self.config, weights, self.names, self.without_bias, memory, device)
    }
}

fn described(text: &str) -> Result<Described, ConfigProblem> {
    #[derive(Deserialize)]
    struct Kind {
        model_type: String,
    }
    let Kind { model_type } = serde_json::from_str(text)?;
    let file: Value = serde_json::from_str(text)?;
    if let Some(method) = quantization(&file) {
        return Err(ConfigProblem::Unsupported(is_quantized(&method)));
    }
    if let Some(family) = Family::of_model_type(&model_type) {
        let config = family.chosen_for((family.from_json)(&file)?);
        let without_bias = (family.without_bias)(&file);
        return Ok(Described { config, names: &family.names, without_bias });
    }
    if model_type == own::MODEL_TYPE {
        let OwnConfig { vocab_size, kindling } = serde_json::from_value(file)?;
        let config = GptConfig { vocab_size, ..kindling };
        return Ok(Described { config, names: &own::NAMES, without_bias: None });
    }
    let known = listed(Family::model_types());
    Err(ConfigProblem::Unsupported(format!("`model_type` is {model_type:?}; only {known} are supported")))
}

#[cfg(test)]
mod tests {
    use model::{Activation, AttentionConfig, FeedForwardConfig, Position, PositionConfig};

    use super::*;
    use crate::FAMILIES;

    fn read(file: &Value) -> GptConfig {
        described(&file.to_string()).expect("it is supported").config
    }

    fn refusal(file: &Value) -> String {
        match described(&file.to_string()) {
            Err(ConfigProblem::Unsupported(reason)) => reason,
            other => panic!("{file} was taken for a model: {other:?}"),
        }
    }

    #[test]
    fn a_model_of_no_layout_is_described_whole() {
        let debug = GptConfig::debug();
        let config = GptConfig {
            zero_init: true,
            attention: AttentionConfig { n_kv_head: Some(1), ..debug.attention },
            feed_forward: FeedForwardConfig { activation: Activation::Relu2, ..debug.feed_forward },
            position: PositionConfig { kind: Position::Rope, rope_theta: 5e5 },
            ..debug
        };
        let text = config_to_json(&config, &SpecialTokens::default(), "float32").to_string();
        let read = described(&text).expect("it was just written");
        assert_eq!(read.config, config);
        assert!(std::ptr::eq(read.names, &raw const own::NAMES));
    }

    #[test]
    fn a_family_is_written_where_it_was_chosen_and_read_where_it_does_not_follow() {
        for family in FAMILIES {
            let config = GptConfig { vocab_size: 5, ..(family.base)() };
            let chosen = GptConfig { family: Some(family.model_type.to_owned()), ..config };
            let file = config_to_json(&chosen, &SpecialTokens::default(), "float32");
            assert_eq!(file["model_type"], family.model_type);
            let read = read(&file);
            assert_eq!(Family::of(&read).map(|found| found.name), Ok(family.name));
            let derived = Family::of(&GptConfig { family: None, ..chosen }).expect("it has all options");
            let is_first = derived.model_type == family.model_type;
            assert_eq!(read.family.is_none(), is_first, "{family:?}");
        }
    }

    #[test]
    fn other_models_are_refused_by_name() {
        let mut value = config_to_json(&GptConfig::debug(), &SpecialTokens::default(), "float32");
        value["model_type"] = json!("gemma3");
        let reason = refusal(&value);
        let known = listed(Family::model_types());
        assert_eq!(reason, format!("`model_type` is \"gemma3\"; only {known} are supported"));
    }

    #[test]
    fn quantized_models_are_refused_by_their_method() {
        let mut value = config_to_json(&GptConfig::debug(), &SpecialTokens::default(), "float32");
        value["quantization_config"] = json!({ "quant_method": "gptq", "bits": 4 });
        assert!(refusal(&value).starts_with("its weights are quantized (gptq)"));
    }
}
