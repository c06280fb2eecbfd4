//! `config.json`: the sizes and options of a model, with the keys of its family, or Kindling's own without a family.

use std::path::Path;

use burn::prelude::Device;
use formats::weights::{Tensor, Weights};
use model::{Gpt, GptConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokenizer::SpecialTokens;

use crate::{
    Error, Result,
    config_problem::ConfigProblem,
    family::Family,
    load::{WeightStorage, load},
    names::{MatrixLayout, Names},
    own,
    quantization::{is_quantized, quantization},
    registry::listed,
};

/// The `config.json` of a model without a family.
#[derive(Serialize, Deserialize)]
struct OwnConfig {
    vocab_size: usize,
    /// All other options, as in a recipe.
    kindling: GptConfig,
}

/// The `config.json` of a model; `dtype` is PyTorch's name of the type of its stored weights.
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
    special_tokens.companions.add_to_config(&mut file);
    file["dtype"] = json!(dtype);
    file
}

/// A parsed `config.json`.
#[derive(Debug)]
pub struct ConfigJson {
    config: GptConfig,
    names: &'static Names,
    /// A substring of the keys of matrices without bias, if other matrices have one; a [`Gpt`] has zeros there.
    without_bias: Option<&'static str>,
}

impl ConfigJson {
    /// Parses the text of the `config.json` at `path`.
    ///
    /// # Errors
    ///
    /// If it is invalid, or the model is not supported.
    pub fn read(text: &str, path: &Path) -> Result<Self> {
        let parsed = parse(text).map_err(|problem| match problem {
            ConfigProblem::Json(source) => Error::Json { path: path.to_owned(), source },
            ConfigProblem::Unsupported(reason) => Error::Config { path: path.to_owned(), reason },
        })?;
        parsed.config.check().map_err(|source| Error::Sizes { path: path.to_owned(), source })?;
        Ok(parsed)
    }

    /// The sizes and options of the model.
    pub fn config(&self) -> &GptConfig {
        &self.config
    }

    /// Whether inference can use all matrices of a weight file where they are mapped. In 16 bits they must not be
    /// transposed.
    pub fn is_mappable(&self, weights: &Weights) -> bool {
        let may_be_half = self.names.matrices == MatrixLayout::OutIn;
        let is_mappable = |tensor: &Tensor| tensor.is_mappable() || (may_be_half && tensor.is_half());
        let mut tensors =
            weights.names().filter_map(|name| weights.get(name).filter(|_| self.names.key(name).is_some()));
        tensors.all(|tensor| tensor.shape().len() != 2 || is_mappable(tensor))
    }

    /// Loads the model.
    ///
    /// # Errors
    ///
    /// If the weights can't be read, or tensors are missing, unexpected, or of the wrong shape or type. All such
    /// tensors are named.
    pub fn load(&self, weights: Weights, storage: WeightStorage, device: &Device) -> Result<Gpt> {
        load(&self.config, weights, self.names, self.without_bias, storage, device)
    }
}

fn parse(text: &str) -> Result<ConfigJson, ConfigProblem> {
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
        let config = family.pin_family((family.from_json)(&file)?);
        let without_bias = (family.without_bias)(&file);
        return Ok(ConfigJson { config, names: &family.names, without_bias });
    }
    if model_type == own::MODEL_TYPE {
        let OwnConfig { vocab_size, kindling } = serde_json::from_value(file)?;
        let config = GptConfig { vocab_size, ..kindling };
        return Ok(ConfigJson { config, names: &own::NAMES, without_bias: None });
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
        parse(&file.to_string()).expect("it is supported").config
    }

    fn refusal(file: &Value) -> String {
        match parse(&file.to_string()) {
            Err(ConfigProblem::Unsupported(reason)) => reason,
            other => panic!("{file} was accepted: {other:?}"),
        }
    }

    #[test]
    fn a_model_without_a_family_survives_the_round_trip() {
        let debug = GptConfig::debug();
        let config = GptConfig {
            zero_init: true,
            attention: AttentionConfig { n_kv_head: Some(1), ..debug.attention },
            feed_forward: FeedForwardConfig { activation: Activation::Relu2, ..debug.feed_forward },
            position: PositionConfig { kind: Position::Rope, rope_theta: 5e5 },
            ..debug
        };
        let text = config_to_json(&config, &SpecialTokens::default(), "float32").to_string();
        let read = parse(&text).expect("it was just written");
        assert_eq!(read.config, config);
        assert!(std::ptr::eq(read.names, &raw const own::NAMES));
    }

    #[test]
    fn a_chosen_family_is_read_back_if_the_options_alone_do_not_imply_it() {
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
    fn unsupported_model_types_are_refused_by_name() {
        let mut value = config_to_json(&GptConfig::debug(), &SpecialTokens::default(), "float32");
        value["model_type"] = json!("gemma3");
        let reason = refusal(&value);
        let known = listed(Family::model_types());
        assert_eq!(reason, format!("`model_type` is \"gemma3\"; only {known} are supported"));
    }

    #[test]
    fn quantized_models_are_refused_with_the_method() {
        let mut value = config_to_json(&GptConfig::debug(), &SpecialTokens::default(), "float32");
        value["quantization_config"] = json!({ "quant_method": "gptq", "bits": 4 });
        assert!(refusal(&value).starts_with("its weights are quantized (gptq)"));
    }
}
