//! GGUF, the format of llama.cpp and Ollama: one file with metadata and tensors.
//!
//! [`write()`] writes version 3, one tensor at a time, so that a model is not in memory twice. [`Gguf::parse`] reads
//! the structure of versions 1 to 3 from a byte slice, such as a memory map, and copies no tensor. It checks every
//! length against the file size before it allocates memory.
//!
//! ```
//! use formats::gguf::{self, Gguf, TensorInfo, TensorType, Value};
//!
//! let metadata = [("general.architecture".to_owned(), Value::from("gpt2"))];
//! let tensors = [TensorInfo { name: "output.weight".to_owned(), dims: vec![2, 3], ty: TensorType::F16 }];
//! let weights = [0.5, -1.0, 2.0, 0.0, 1.5, -0.25];
//!
//! let mut file = Vec::new();
//! gguf::write(&mut file, &metadata, &tensors, |_tensor| Ok::<_, gguf::Error>(weights.as_slice().into()))?;
//!
//! let read = Gguf::parse(&file)?;
//! assert_eq!(read.value("general.architecture").and_then(Value::as_str), Some("gpt2"));
//! assert_eq!(read.tensor("output.weight").unwrap().to_f32(), weights);
//! # Ok::<(), gguf::Error>(())
//! ```
//!
//! Dimensions are in GGUF's order, the reverse of a PyTorch or Burn shape: the first is the length of a contiguous row.
//!
//! [`Vocabulary`] is the only part of the metadata that this module interprets.
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod constants;
mod cursor;
mod describe;
mod error;
mod reader;
mod split;
mod tensor_type;
mod value;
mod vocabulary;
mod writer;

pub use error::{Error, Result};
pub use reader::{Gguf, TensorView};
pub use split::{PartName, part_paths};
pub use tensor_type::TensorType;
pub use value::{Array, Value};
pub use vocabulary::{BpeModel, Pattern, Token, TokenKind, Vocabulary};
pub use writer::{TensorInfo, write};
