//! What the files of a model look like: whose `config.json`, and where in a file of weights each parameter lies.

use model::GptConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Marks;
use crate::foreign::{is_quantized, quantization};
use crate::hugging_face::{Architecture, ConfigProblem, gpt2, llama};

/// What `torch.compile` puts before every key of a model that it saves.
const COMPILED: &str = "_orig_mod.";

/// What `config.json` calls a model whose parts are in no layout of Hugging Face's.
const OWN: &str = "kindling";

/// How the weights of a file lie and what they are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One of Hugging Face's.
    HuggingFace(Architecture),
    /// nanoGPT's, which has GPT-2's names: every linear layer lies transposed.
    NanoGpt,
    /// That of models which are in none of Hugging Face's: as here, each parameter under its path.
    Own,
}

/// Where in a file a parameter lies.
pub(crate) struct Place {
    /// What is stored of it, one or several one after the other.
    pub(crate) parts: Vec<Part>,
    /// Whether a matrix is stored as `[out, in]`.
    pub(crate) is_transposed: bool,
}

/// What is stored of a parameter under one key.
pub(crate) struct Part {
    pub(crate) key: String,
    /// How many outputs it has, the first axis of what is stored; `None` if it has all.
    pub(crate) n_outputs: Option<usize>,
}

impl Part {
    /// The extents of what is stored under its key.
    pub(crate) fn shape(&self, mut whole: Vec<usize>) -> Vec<usize> {
        if let Some(n_outputs) = self.n_outputs {
            whole[0] = n_outputs;
        }
        whole
    }
}

impl Place {
    fn whole(key: String, is_transposed: bool) -> Self {
        Self { parts: vec![Part { key, n_outputs: None }], is_transposed }
    }

    /// The extents of all parts together, those of the parameter being `dims`.
    pub(crate) fn shape(&self, dims: &[usize]) -> Vec<usize> {
        let mut shape = dims.to_vec();
        if self.is_transposed {
            shape.reverse();
        }
        shape
    }
}

impl Layout {
    /// The one that a model with these sizes and parts is saved in.
    pub(crate) fn of(config: &GptConfig) -> Self {
        Architecture::of(config).map_or(Self::Own, Self::HuggingFace)
    }

    /// Where a parameter lies, by its path in the model.
    ///
    /// # Panics
    ///
    /// If a model of this layout has no such parameter.
    pub(crate) fn place(self, path: &str, config: &GptConfig) -> Place {
        match self {
            Self::HuggingFace(Architecture::Gpt2) => {
                let key = gpt2::key(path);
                let is_transposed = key == gpt2::HEAD_KEY;
                Place::whole(key, is_transposed)
            }
            Self::NanoGpt => {
                let key = gpt2::key(path);
                let is_transposed = key == gpt2::HEAD_KEY || gpt2::is_linear(&key);
                Place::whole(key, is_transposed)
            }
            Self::HuggingFace(Architecture::Llama | Architecture::Qwen3) => {
                let outputs = llama::outputs(path, config).into_iter().map(Some);
                let n_outputs = outputs.chain(std::iter::repeat(None));
                let parts = llama::keys(path).into_iter().zip(n_outputs);
                let is_transposed = path.ends_with(".weight") && path != "token_embedding.weight";
                Place {
                    parts: parts.map(|(key, n_outputs)| Part { key, n_outputs }).collect(),
                    is_transposed,
                }
            }
            Self::Own => Place::whole(path.to_owned(), false),
        }
    }

    /// A name without what `torch.compile` puts before it.
    pub(crate) fn without_wrapper(name: &str) -> &str {
        name.strip_prefix(COMPILED).unwrap_or(name)
    }

    /// The key of what a file calls `name`, which may lack the prefix of the others, or have one more; `None` for a
    /// buffer that is no weight.
    pub(crate) fn key(self, name: &str) -> Option<String> {
        let name = Self::without_wrapper(name);
        let (prefix, is_buffer) = match self {
            Self::HuggingFace(Architecture::Gpt2) | Self::NanoGpt => (gpt2::PREFIX, gpt2::is_mask(name)),
            Self::HuggingFace(Architecture::Llama | Architecture::Qwen3) => {
                (llama::PREFIX, llama::is_angles(name))
            }
            Self::Own => ("", false),
        };
        let is_whole = name == self.head_key() || name.starts_with(prefix);
        let key = if is_whole { name.to_owned() } else { format!("{prefix}{name}") };
        (!is_buffer).then_some(key)
    }

    /// The key of the head, where it is not the token embedding.
    pub(crate) fn head_key(self) -> &'static str {
        match self {
            Self::HuggingFace(Architecture::Gpt2) | Self::NanoGpt => gpt2::HEAD_KEY,
            Self::HuggingFace(Architecture::Llama | Architecture::Qwen3) => llama::HEAD_KEY,
            Self::Own => "head.weight",
        }
    }

    /// The key of the token embedding.
    pub(crate) fn embedding_key(self) -> &'static str {
        match self {
            Self::HuggingFace(Architecture::Gpt2) | Self::NanoGpt => gpt2::EMBEDDING_KEY,
            Self::HuggingFace(Architecture::Llama | Architecture::Qwen3) => llama::EMBEDDING_KEY,
            Self::Own => "token_embedding.weight",
        }
    }

    /// The key of the bias that every model of this layout has beside a weight, if there is one: zeros where ours has
    /// none.
    pub(crate) fn bias_key(self, weight_key: &str) -> Option<String> {
        match self {
            Self::HuggingFace(Architecture::Gpt2) | Self::NanoGpt => gpt2::bias_key(weight_key),
            Self::HuggingFace(Architecture::Llama | Architecture::Qwen3) | Self::Own => None,
        }
    }
}

/// What the `config.json` of a model of no layout of Hugging Face's says of it.
#[derive(Serialize, Deserialize)]
struct OwnConfig {
    vocab_size: usize,
    /// All the rest, as in a recipe.
    kindling: GptConfig,
}

/// `config.json` of a model; `dtype` is what its weights are stored as.
pub(crate) fn config_to_json(config: &GptConfig, marks: &Marks, dtype: &str) -> Value {
    let mut file = match Architecture::of(config) {
        Ok(architecture) => architecture.to_json(config),
        Err(_) => json!({
            "architectures": ["KindlingForCausalLM"],
            "model_type": OWN,
            "vocab_size": config.vocab_size,
            "kindling": config,
        }),
    };
    marks.write_to(&mut file);
    marks.companions.lay_over_config(&mut file);
    file["dtype"] = json!(dtype);
    file
}

/// What a `config.json` says.
#[derive(Debug, PartialEq)]
pub(crate) struct Described {
    pub(crate) layout: Layout,
    pub(crate) config: GptConfig,
    /// A part of the keys of those matrices that have no bias where others have one; a [`model::Gpt`] has zeros there.
    pub(crate) without_bias: Option<&'static str>,
}

/// The layout and the sizes that a `config.json` describes, or why no [`model::Gpt`] is such a model.
pub(crate) fn config_from_json(text: &str) -> Result<Described, ConfigProblem> {
    #[derive(Deserialize)]
    struct Kind {
        model_type: String,
    }
    let Kind { model_type } = serde_json::from_str(text)?;
    let file: Value = serde_json::from_str(text)?;
    if let Some(method) = quantization(&file) {
        return Err(ConfigProblem::Unsupported(is_quantized(&method)));
    }
    let architectures = [Architecture::Gpt2, Architecture::Llama, Architecture::Qwen3];
    if let Some(&found) = architectures.iter().find(|known| known.model_type() == model_type) {
        let without_bias = if found == Architecture::Llama { llama::without_bias(&file) } else { None };
        let config = found.config(file)?;
        return Ok(Described { layout: Layout::HuggingFace(found), config, without_bias });
    }
    if model_type == OWN {
        let OwnConfig { vocab_size, kindling } = serde_json::from_value(file)?;
        let config = GptConfig { vocab_size, ..kindling };
        return Ok(Described { layout: Layout::Own, config, without_bias: None });
    }
    Err(ConfigProblem::Unsupported(format!(
        "`model_type` is {model_type:?}; only \"gpt2\", \"llama\" and \"qwen3\" are supported"
    )))
}

#[cfg(test)]
mod tests {
    use model::{Activation, Position};

    use super::*;

    #[test]
    fn a_model_of_no_layout_is_described_whole() {
        let config = GptConfig {
            position: Position::Rope,
            activation: Activation::Relu2,
            rope_theta: 5e5,
            n_kv_head: Some(1),
            zero_init: true,
            ..GptConfig::debug()
        };
        let text = config_to_json(&config, &Marks::default(), "float32").to_string();
        let read = config_from_json(&text).expect("it was just written");
        assert_eq!(read, Described { layout: Layout::Own, config, without_bias: None });
    }

    #[test]
    fn other_models_are_refused_by_name() {
        let mut value = config_to_json(&GptConfig::debug(), &Marks::default(), "float32");
        value["model_type"] = json!("mistral");
        match config_from_json(&value.to_string()) {
            Err(ConfigProblem::Unsupported(reason)) => assert!(reason.contains("\"mistral\""), "{reason}"),
            other => panic!("a Mistral was taken for one of ours: {other:?}"),
        }
    }

    #[test]
    fn quantized_models_are_refused_by_their_method() {
        let mut value = config_to_json(&GptConfig::debug(), &Marks::default(), "float32");
        value["quantization_config"] = json!({ "quant_method": "gptq", "bits": 4 });
        match config_from_json(&value.to_string()) {
            Err(ConfigProblem::Unsupported(reason)) => {
                assert!(reason.starts_with("its weights are quantized (gptq)"), "{reason}");
            }
            other => panic!("quantized weights were taken for floats: {other:?}"),
        }
    }

    #[test]
    fn names_may_lack_a_prefix_or_have_one_more() {
        let llama = Layout::HuggingFace(Architecture::Llama);
        for name in ["layers.0.mlp.up_proj.weight", "_orig_mod.model.layers.0.mlp.up_proj.weight"] {
            assert_eq!(llama.key(name).as_deref(), Some("model.layers.0.mlp.up_proj.weight"));
        }
        assert_eq!(llama.key("lm_head.weight").as_deref(), Some("lm_head.weight"));
        assert_eq!(llama.key("model.layers.0.self_attn.rotary_emb.inv_freq"), None);
        assert_eq!(Layout::NanoGpt.key("h.0.attn.bias"), None);
        assert_eq!(
            Layout::Own.key("blocks.0.attention.qkv.weight").as_deref(),
            Some("blocks.0.attention.qkv.weight")
        );
    }
}
