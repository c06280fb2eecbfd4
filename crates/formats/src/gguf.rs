//! Files in GGUF, the format of llama.cpp, Ollama and others: one file with metadata and tensors.
//!
//! [`write()`] makes files of version 3, one tensor at a time, so that a model need not be in memory twice.
//! [`Gguf::parse`] reads the structure of versions 1 to 3 over a slice of bytes, such as a memory map, and copies
//! no tensor. It trusts nothing: whatever a file says is checked against its length before memory is taken for it.
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
//! The order of dimensions is GGUF's: the first one is the length of a row, whose values lie side by side. It is
//! the reverse of the shape that PyTorch or Burn would print.
//!
//! What tensors and keys mean for a model is not known here, but for the tokens: a [`Vocabulary`] is read and written.
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod constants;
mod cursor;
mod describe;
mod encoding;
mod error;
mod reader;
mod tensor_type;
mod value;
mod vocabulary;
mod writer;

pub use error::{Error, Result};
pub use reader::{Gguf, TensorView};
pub use tensor_type::TensorType;
pub use value::{Array, Value};
pub use vocabulary::{Joins, Pattern, Token, TokenKind, Vocabulary};
pub use writer::{TensorInfo, write};
