//! What is known of each model family: `config.json` in both directions, the names of its tensors in Hugging Face's layout
//! and in GGUF, and llama.cpp's keys.
//!
//! One file describes one family, and [`FAMILIES`] lists them. All families are read and written by the same code, which
//! asks the description: [`Described`] opens Hugging Face's layout, [`write_safetensors`] and [`config_to_json`] write it,
//! [`gguf`] does both for llama.cpp's, and [`load_nanogpt`] reads nanoGPT's checkpoints. A model with options that no family
//! has is kept in a layout of our own.
//!
//! ```
//! use families::Family;
//! use model::GptConfig;
//!
//! let family = Family::of(&GptConfig::debug_modern())?;
//! assert_eq!((family.name, family.class), ("Qwen3", "Qwen3ForCausalLM"));
//! # Ok::<(), families::NoFamily>(())
//! ```

mod collect;
mod config_json;
mod config_problem;
mod error;
mod family;
mod foreign;
pub mod gguf;
mod gpt2;
mod llama;
mod llama_like;
#[cfg(test)]
mod llama_like_tests;
mod load;
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

pub use collect::write_safetensors;
pub use config_json::{Described, config_to_json};
pub use error::{Error, Result};
pub use family::Family;
pub use foreign::{adapter, merge_advice, other_contents, unread_tokenizer};
pub use load::Memory;
pub use nanogpt::{check_nanogpt, load_nanogpt, load_nanogpt_tokenizer};
pub use registry::{FAMILIES, NoFamily};
pub use shell::quoted;
