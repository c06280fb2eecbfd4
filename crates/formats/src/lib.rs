//! Readers and writers of weight files.
//!
//! [`weights`] reads and writes safetensors and reads PyTorch pickles, in one file or in shards. [`gguf`] reads and
//! writes llama.cpp's format, including its vocabulary. Files are not trusted: each length is checked against the file
//! size before memory is allocated, and pickles are never executed. The crate does not interpret tensors; `families`
//! does.

pub mod gguf;
mod lfs;
pub mod weights;

pub use lfs::refuse_lfs_pointer;
