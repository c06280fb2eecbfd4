//! Export and import of models as GGUF files, llama.cpp's format.

mod adapter;
mod error;
mod export;
mod file_type;
mod import;
mod metadata;
mod read;

pub use adapter::{GgufAdapter, export_adapter};
pub use error::{Error, Result};
pub use export::{ExportError, export};
pub use file_type::FileType;
pub use import::{GgufFile, WeightType};
pub use metadata::{metadata, tensors};
pub use read::GgufModel;
