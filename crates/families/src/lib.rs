//! Model families such as Llama and Qwen3: their `config.json`, tensor names in Hugging Face layout and GGUF, and GGUF
//! keys.
//!
//! Each family is described in one file, and [`FAMILIES`] lists them. The same code reads and writes all families:
//! [`ConfigJson`] opens models in Hugging Face layout, [`write_safetensors`] and [`config_to_json`] write them,
//! [`gguf`] reads and writes GGUF files, and [`load_nanogpt`] reads nanoGPT checkpoints. A model with options that no
//! family combines is saved in Kindling's own layout.
//!
//! ```
//! use families::Family;
//! use model::GptConfig;
//!
//! let family = Family::of(&GptConfig::debug_modern())?;
//! assert_eq!((family.name, family.class), ("Qwen3", "Qwen3ForCausalLM"));
//! # Ok::<(), families::NoFamily>(())
//! ```

mod adapter;
mod collect;
mod config_json;
mod config_problem;
mod error;
mod family;
pub mod gguf;
mod gpt2;
mod llama;
mod llama_like;
#[cfg(test)]
mod llama_like_tests;
mod load;
mod lora_matrices;
mod lora_module;
mod map;
mod mistral;
mod names;
#[cfg(test)]
mod names_tests;
mod nanogpt;
mod own;
mod quantization;
mod qwen2;
mod qwen3;
mod registry;
mod shell;
mod stored;
mod unsupported;

pub use adapter::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, AdapterConfig, with_adapter, write_adapter};
pub use collect::write_safetensors;
pub use config_json::{ConfigJson, config_to_json};
pub use error::{Error, Result};
pub use family::Family;
pub use load::WeightStorage;
pub use lora_module::LoraModule;
pub use nanogpt::{check_nanogpt, load_nanogpt, load_nanogpt_tokenizer};
pub use registry::{FAMILIES, NoFamily};
pub use shell::quoted;
pub use unsupported::{describe_adapter, explain_missing, merge_advice, unsupported_tokenizer};
