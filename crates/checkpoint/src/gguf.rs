//! A model as one GGUF file, for llama.cpp and what is built on it, and from there.

mod export;
mod import;

pub use export::export_gguf;
pub use import::GgufFile;

use crate::Architecture;

/// What llama.cpp calls an architecture.
fn kind(architecture: Architecture) -> ::gguf::Architecture {
    match architecture {
        Architecture::Gpt2 => ::gguf::Architecture::Gpt2,
        Architecture::Llama => ::gguf::Architecture::Llama,
        Architecture::Qwen3 => ::gguf::Architecture::Qwen3,
    }
}

/// The architecture that llama.cpp calls so.
fn architecture(kind: ::gguf::Architecture) -> Architecture {
    match kind {
        ::gguf::Architecture::Gpt2 => Architecture::Gpt2,
        ::gguf::Architecture::Llama => Architecture::Llama,
        ::gguf::Architecture::Qwen3 => Architecture::Qwen3,
    }
}
