//! Readers and writers of files with weights.
//!
//! [`weights`] reads and writes safetensors and reads PyTorch's pickles, whole or in shards; [`gguf`] reads and writes
//! llama.cpp's format, with its vocabulary. A file is never trusted: each length is checked against the bytes that are
//! there before memory is taken for it, and nothing in a pickle is executed. What a tensor means for a model is not
//! known here.

pub mod gguf;
mod lfs;
pub mod weights;

pub use lfs::refuse_lfs_pointer;
