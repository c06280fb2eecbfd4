//! Export and import of models as GGUF files, llama.cpp's format.

mod error;
mod export;
mod import;
mod metadata;
mod read;

pub use error::{Error, Result};
pub use export::{ExportError, export};
pub use import::GgufFile;
pub use metadata::{metadata, tensors};
pub use read::GgufModel;
