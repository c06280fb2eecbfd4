//! The architectures that are read and written, and what llama.cpp asks of each.

use std::fmt;

/// What a model is made of.
///
/// Names and keys are those that llama.cpp's `convert_hf_to_gguf.py` (its `conversion/gpt2.py`, `llama.py` and
/// `qwen.py`) writes, and what is required is what its `src/models` and `src/llama-vocab.cpp` load:
///
/// - Every tensor of [`Config::tensors`](crate::Config::tensors) has to be there, biases too (zeros where a model has
///   none). Only `output.weight` may be missing: the token embedding stands in for it.
/// - Rows of `token_embd.weight` have to be as many as the vocabulary has tokens
///   ([`Vocabulary::pad`](crate::Vocabulary::pad)), and rows of `position_embd.weight` as many as
///   `gpt2.context_length`.
/// - It aborts at the first token beyond the context of a GPT-2. It rounds the context it is asked for up to a multiple
///   of 256, so with a shorter one the number of tokens is to be limited.
/// - The activation of a GPT-2 is the tanh form of GELU and can't be chosen, nor can the scale of attention, `1/√d`. On
///   a CPU it is looked up in half precision, so logits agree to about three digits even with weights in `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// `GPT2LMHeadModel`: learned positions, layer norm, GELU, biases.
    Gpt2,
    /// `LlamaForCausalLM`: rotary positions, RMS norm, SwiGLU, queries in groups.
    Llama,
    /// `Qwen3ForCausalLM`: a Llama whose queries and keys are normed, head by head.
    Qwen3,
}

impl Architecture {
    /// Every architecture.
    pub const ALL: [Self; 3] = [Self::Gpt2, Self::Llama, Self::Qwen3];

    /// `general.architecture`, which the keys of sizes begin with.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Llama => "llama",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The architecture of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|architecture| architecture.name() == name)
    }

    /// Whether positions turn queries and keys, and are no embedding of their own.
    pub fn is_rotary(self) -> bool {
        self != Self::Gpt2
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
