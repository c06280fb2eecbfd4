//! What llama.cpp needs to load a GPT-2: the architecture `gpt2` in GGUF.
//!
//! Names and keys are those that llama.cpp's `convert_hf_to_gguf.py` (its `conversion/gpt2.py`) writes, and what
//! is required is what `src/models/gpt2.cpp` and `src/llama-vocab.cpp` there load:
//!
//! - Every tensor of [`Config::tensors`] has to be there, biases too (zeros where a model has none). Only
//!   `output.weight` may be missing: the token embedding stands in for it.
//! - Rows of `token_embd.weight` have to be as many as the vocabulary has tokens ([`Vocabulary::pad`]), and rows of
//!   `position_embd.weight` as many as `gpt2.context_length`.
//! - llama.cpp aborts at the first token beyond that context. It rounds the context it is asked for up to a multiple
//!   of 256, so with a shorter one the number of tokens is to be limited.
//! - The activation is the tanh form of GELU and can't be chosen, nor can the scale of attention, `1/√d`. On a CPU
//!   it is looked up in half precision, so logits agree to about three digits even with weights in `f32`.

mod bytes;
mod config;
mod tensors;
mod vocabulary;

pub use config::Config;
pub use tensors::{Mapped, tensor_name};
pub use vocabulary::{Token, TokenKind, Vocabulary};
